"""Parity with transformers' PaliGemma on random weights, in the same process."""

import json
from functools import cache

import pytest
import torch
from torch import Tensor

from mindhand.core.errors import BadData
from mindhand.core.keys import Keys
from mindhand.core.seams import Segment, Turn, text_position
from mindhand.model.configs import GEMMA, vlm_config
from mindhand.model.gemma import GemmaConfig
from mindhand.model.import_gemma import from_paligemma
from mindhand.model.store import PARTS
from mindhand.model.trunk import Trunk
from mindhand.model.vision_siglip import SigLIPConfig
from mindhand.model.vlm import VLM, VLMConfig
from mindhand.model.whole_prompt import WholePrompt
from mindhand.model.words import SAY, Words

from ..model.tiny import words

transformers = pytest.importorskip("transformers")

W: Words = words()
IMAGE = len(W)
CONFIG = VLMConfig(
    GemmaConfig(32, 2, heads=4, groups=1, head_size=16, ffn=48), len(W) + 1, SigLIPConfig(24, 2, 2, 4, 3, 40, 32)
)
Row = tuple[list[int], list[int]]  # ids of the prompt, and behind it
ROWS: list[Row] = [([5, 6, 7], [8, 9]), ([12, 13, 14, 15, 16], [17]), ([18], [19, 20, 21])]


def reference(**more):
    """Their class at the size of `CONFIG`, with random weights."""
    torch.manual_seed(0)
    theirs = transformers.PaliGemmaForConditionalGeneration(
        transformers.PaliGemmaConfig(
            text_config=dict(
                model_type="gemma", vocab_size=len(W) + 1, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
                num_attention_heads=4, num_key_value_heads=1, head_dim=16, **more,
            ),
            vision_config=dict(
                model_type="siglip_vision_model", hidden_size=24, intermediate_size=40, num_hidden_layers=2,
                num_attention_heads=2, patch_size=4, image_size=12, vision_use_head=False,
            ),
            projection_dim=32, hidden_size=32, image_token_index=IMAGE, vocab_size=len(W) + 1,
        )
    ).eval()  # fmt: skip
    for p in theirs.parameters():
        torch.nn.init.normal_(p, std=0.25)
    return theirs


@cache
def models():
    """Theirs, and ours with its weights."""
    theirs, ours = reference(), VLM(CONFIG, W)
    ours.load_state_dict(from_paligemma(theirs.state_dict()))
    WholePrompt().apply(ours)
    return theirs, ours.eval()


def pictures(count: int) -> list[Tensor]:
    g = torch.Generator().manual_seed(3)
    return [torch.rand(len(ROWS), 1, 3, 12, 12, generator=g) for _ in range(count)]


def asked(rows: list[Row], images: list[Tensor], side: str) -> dict[str, Tensor]:
    """The reference's inputs: pictures, prompt, and what follows, padded at one side."""
    ids = [[IMAGE] * 9 * len(images) + prompt + said for prompt, said in rows]
    most = max(map(len, ids))
    left = [(most - len(i)) * (side == "left") for i in ids]
    right = [most - len(i) - n for i, n in zip(ids, left)]
    kind = [[0] * (len(i) - len(said)) + [1] * len(said) for i, (_, said) in zip(ids, rows)]
    return {
        "input_ids": torch.tensor([[W.pad] * a + i + [W.pad] * b for a, i, b in zip(left, ids, right)]),
        "attention_mask": torch.tensor([[0] * a + [1] * len(i) + [0] * b for a, i, b in zip(left, ids, right)]),
        "token_type_ids": torch.tensor([[0] * a + k + [1] * b for a, k, b in zip(left, kind, right)]),
        "pixel_values": torch.stack([i[b, 0] * 2 - 1 for b in range(len(rows)) for i in images]),
    }


def passed(ours: VLM, rows: list[Row], images: list[Tensor], side: str) -> Trunk:
    """Our pass over the same; each run of text is padded at one side by itself."""
    start: Tensor | int = 0
    segments = []
    for n, image in enumerate(images):
        seen = ours.see({"it": image})["it"]
        place, start = ours.place(seen.grid, seen.valid, start)
        segments.append(Segment(f"image/{n}", seen.x, seen.valid, place))
    for i, name in enumerate(("text", "reasoning")):
        text = W.pack([r[i] if side == "right" else r[i][::-1] for r in rows])
        ids, valid = (text.ids, text.valid) if side == "right" else (text.ids.flip(1), text.valid.flip(1))
        segments.append(Segment(name, ours.embed(ids), valid, text_position(valid, start)))
        start = start + valid.sum(1)
    return ours(segments)


def scores(ours: VLM, trunk: Trunk) -> Tensor:
    """Logits of all valid tokens, row by row."""
    hidden, valid = (torch.cat(list(x.values()), 1) for x in (trunk.hidden, trunk.valid))
    return ours.logits(hidden)[valid]


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_logits_of_rows_with_pictures(count, side):
    theirs, ours = models()
    given = asked(ROWS, pictures(count), side)
    with torch.no_grad():
        want = theirs(**given).logits[given["attention_mask"].bool()]
        got = scores(ours, passed(ours, ROWS, pictures(count), side))
    assert want.abs().max() > 1
    assert (got - want).abs().max() <= 1e-4


def test_parity_is_lost_where_the_prompt_is_causal():
    theirs, ours = models()
    causal = VLM(CONFIG, W)
    causal.load_state_dict(ours.state_dict())
    given = asked(ROWS, pictures(2), "right")
    with torch.no_grad():
        want = theirs(**given).logits[given["attention_mask"].bool()]
        got = scores(causal, passed(causal, ROWS, pictures(2), "right"))
    assert (got - want).abs().max() > 1e-2


def test_gradients():
    theirs, ours = models()
    given = asked(ROWS, pictures(2), "right")
    for model in (theirs, ours):
        model.zero_grad()
    theirs(**given).logits[given["attention_mask"].bool()].square().mean().backward()
    scores(ours, passed(ours, ROWS, pictures(2), "right")).square().mean().backward()
    want = from_paligemma({n: p.grad for n, p in theirs.named_parameters()})
    for name, p in ours.named_parameters():
        if name != "embedding.weight":  # of their padding, and of what stands for a picture, the input has none
            assert (p.grad - want[name]).abs().max() <= 2e-4 * want[name].abs().max(), name
    rows = [i for r in ROWS for part in r for i in part]
    grad = want["embedding.weight"][rows]
    assert (ours.embedding.weight.grad[rows] - grad).abs().max() <= 2e-4 * grad.abs().max()


def test_greedy_words_with_a_cache():
    theirs, ours = models()
    told = [(prompt, [*said, *W.cue(SAY)]) for prompt, said in ROWS]
    given = asked(told, pictures(2), "left")
    with torch.no_grad():
        out = theirs.generate(
            **given, max_new_tokens=12, do_sample=False, use_cache=True, eos_token_id=W.end, pad_token_id=W.pad
        )[:, given["input_ids"].shape[1] :].tolist()
        _, said = ours.generate(passed(ours, ROWS, pictures(2), "left"), [Turn(SAY, limit=12)], keys=Keys.seeded(0))
    assert said == [W.decode(row[: [*row, W.end].index(W.end)]) for row in out]
    assert len(set(said)) == len(said) and all(said)


def test_a_picture_of_another_size_is_refused():
    with pytest.raises(BadData, match="12x12"):
        models()[1].see({"it": torch.zeros(1, 1, 3, 16, 16)})


@pytest.mark.parametrize("name", GEMMA)
def test_every_tensor_of_the_published_size_has_its_place(name):
    with torch.device("meta"):
        config = transformers.PaliGemmaConfig()
        config.vision_config.intermediate_size = 4304  # as published; the class's default is another
        want = dict(transformers.PaliGemmaForConditionalGeneration(config).named_parameters())
        ours = VLM(vlm_config(name))
        stored = json.loads(json.dumps(PARTS.describe("vlm", vlm_config(name))))
        assert PARTS.build(stored, words=None).config == vlm_config(name)
    assert {n: p.shape for n, p in ours.named_parameters()} == {n: p.shape for n, p in from_paligemma(want).items()}
    assert sum(p.numel() for p in ours.parameters()) == 2_923_335_408
    assert sum(p.numel() for p in ours.vision.parameters()) == pytest.approx(0.415e9, rel=1e-3)
