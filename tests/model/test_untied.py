"""An output head of its own: the function is kept at first, then reading and writing part."""

import copy

import torch

from mindhand.core.keys import Keys
from mindhand.core.seams import Turn
from mindhand.model.fresh import Fresh
from mindhand.model.store import load_vla, save_vla
from mindhand.model.untied import Untied
from mindhand.model.vla import VLA
from mindhand.model.words import SAY

from ..seams.build import spec
from .tiny import segments, vlm


def logits(model, ids=None):
    found, *_ = segments(model)
    return model.logits(model(found).hidden["reasoning"], ids)


def test_the_function_is_kept_until_the_head_learns():
    tied = vlm()
    untied = copy.deepcopy(tied)
    Untied().apply(untied)
    assert torch.equal(logits(untied), logits(tied))
    logits(untied).square().mean().backward()
    assert untied.head.weight.grad.abs().max() > 0
    with torch.no_grad():
        untied.head.weight.zero_()
    some = torch.tensor([7, 9])
    assert not logits(untied).any() and not logits(untied, some).any() and logits(tied, some).any()


def test_a_head_that_is_there_is_kept():
    """Weights are imported into a VLM before a policy is made of it, whose edits tell a checkpoint of the head."""
    model = vlm()
    Untied().apply(model)
    torch.nn.init.normal_(model.head.weight)
    before = model.head.weight.detach().clone()
    Untied().apply(model)
    assert torch.equal(model.head.weight, before)


def test_new_words_are_written_as_the_mean():
    model = vlm()
    Untied().apply(model)
    torch.nn.init.normal_(model.head.weight)
    before = model.head.weight.detach().clone()
    ids = model.add_words(["<x1>", "<x2>"])
    assert torch.equal(model.head.weight[: len(before)], before)
    assert (model.head.weight[ids] - before.mean(0)).abs().max() < 1e-6
    assert model.head.weight.shape == model.embedding.weight.shape and model.head.out_features == len(model.words)
    assert model.embedding(torch.tensor(ids)).shape == (2, model.width)


def test_a_checkpoint_has_the_head(tmp_path):
    made = VLA(spec=spec(), backbone=vlm(), edits=[Fresh(), Untied()])
    torch.nn.init.normal_(made.backbone.head.weight)
    save_vla(made, tmp_path / "it")
    back = load_vla(tmp_path / "it")
    assert torch.equal(back.backbone.head.weight, made.backbone.head.weight)
    found, *_ = segments(made.backbone)
    with torch.no_grad():
        said = [
            m.generate(m(found[:2]), [Turn(SAY, limit=4)], keys=Keys.seeded(0))[1]
            for m in (made.backbone.eval(), back.backbone)
        ]
    assert said[0] == said[1]
