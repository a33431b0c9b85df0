"""Tiny real models for tests: random weights, real tokenizer, two layers."""

from __future__ import annotations

import torch

from mindhand.core.seams import Segment, grid_position, text_position
from mindhand.model.configs import expert_config, vlm_config
from mindhand.model.expert import ActionExpert
from mindhand.model.vlm import VLM
from mindhand.model.words import Words

CORPUS = ["what is on the board?", "3+4=7. take 7 left back.", "12-5=7. tiles 1 7 4.", "pick the right tile."]


def words() -> Words:
    return Words.train(CORPUS, 160)


def vlm(seed: int = 0) -> VLM:
    torch.manual_seed(seed)
    w = words()
    model = VLM(vlm_config("test", len(w)), w)
    for p in model.towers.parameters():  # default init leaves small models almost linear
        if p.ndim > 1:
            torch.nn.init.normal_(p, std=p.shape[-1] ** -0.5)
    torch.nn.init.normal_(model.embedding.weight)
    return model


def expert(place: str = "latter", seed: int = 0, **changes) -> ActionExpert:
    from dataclasses import replace

    torch.manual_seed(seed)
    config = expert_config("test", action=3, horizon=4, state=5, trunk=32)
    made = ActionExpert(replace(config, place=place, **changes))
    for p in made.parameters():  # leave the zero start, so that every path carries something
        if p.ndim > 1:
            torch.nn.init.normal_(p, std=p.shape[-1] ** -0.5)
    return made


def segments(model: VLM, texts=("what is on the board?", "pick"), answers=("3+4=7.", "take 7 left back."), size=32):
    """Image, text and reasoning segments for two rows of different length."""
    g = torch.Generator().manual_seed(1)
    image = torch.rand(len(texts), 1, 3, size, size, generator=g)
    patches = model.see({"front": image})["front"]
    grid = grid_position(len(texts), patches.grid)
    out = [Segment("image/front", patches.x, patches.valid, grid)]
    start = int(grid.max()) + 1
    ask = model.words.questions(texts)
    out.append(Segment("text", model.embed(ask.ids), ask.valid, text_position(ask.valid, start)))
    say = model.words.answers(answers)
    begin = start + ask.valid.sum(1)
    out.append(Segment("reasoning", model.embed(say.ids), say.valid, text_position(say.valid, begin)))
    return out, ask, say
