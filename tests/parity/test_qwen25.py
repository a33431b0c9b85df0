"""Parity with transformers' Qwen2.5-VL on random weights, in the same process."""

from functools import cache

import pytest
import torch
from torch import Tensor

from mindhand.core.errors import BadData
from mindhand.core.keys import Keys
from mindhand.core.seams import Segment, Turn, grid_position, text_position
from mindhand.model import vision_qwen25
from mindhand.model.import_qwen import from_qwen
from mindhand.model.trunk import TowerConfig, Trunk
from mindhand.model.vision import MEAN, STD
from mindhand.model.vision_qwen25 import WindowViTConfig
from mindhand.model.vlm import VLM, VLMConfig
from mindhand.model.words import SAY, Words

from ..model.tiny import words

transformers = pytest.importorskip("transformers")

PATCH, WINDOW = 4, 3  # a token is 8 pixels a side, a window 24
SIZES = [(8, 8), (24, 24), (48, 24), (32, 40), (56, 16), (16, 64)]  # one token; whole windows; and borders of each kind
W: Words = words()
IMAGE, BEGIN, END = len(W), len(W) + 1, len(W) + 2
Row = tuple[list[int], list[int], list[int]]  # ids before, between and behind two pictures


@cache
def models():
    """Theirs, and ours with its weights."""
    torch.manual_seed(0)
    theirs = transformers.Qwen2_5_VLForConditionalGeneration(
        transformers.Qwen2_5_VLConfig(
            text_config=dict(
                vocab_size=len(W) + 4, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
                num_key_value_heads=2, attn_implementation="eager", rms_norm_eps=1e-6,
                rope_parameters={"rope_type": "default", "rope_theta": 1e6, "mrope_section": [2, 3, 3]},
            ),
            vision_config=dict(
                depth=4, hidden_size=32, num_heads=2, intermediate_size=40, out_hidden_size=64, patch_size=PATCH,
                spatial_merge_size=2, temporal_patch_size=2, window_size=2 * PATCH * WINDOW, fullatt_block_indexes=[1],
            ),
            image_token_id=IMAGE, vision_start_token_id=BEGIN, vision_end_token_id=END, video_token_id=len(W) + 3,
            tie_word_embeddings=True,
        )
    ).eval()  # fmt: skip
    for name, p in theirs.named_parameters():  # norms scale by about one, or nothing would come through
        torch.nn.init.normal_(p, mean=name.endswith("weight") and p.ndim == 1, std=0.15)
    tower = TowerConfig(64, 2, heads=4, groups=2, head_size=16, ffn=96, sections=(2, 3, 3))
    vision = WindowViTConfig(32, layers=4, heads=2, patch=PATCH, ffn=40, window=WINDOW, whole=(1,), out=64)
    ours = VLM(VLMConfig(tower, len(W) + 4, vision), W).eval()
    ours.load_state_dict(from_qwen(theirs.state_dict()))
    return theirs, ours


def flat(video: Tensor) -> tuple[Tensor, list[int]]:
    """What the reference takes, of frames (T,3,h,w): patches, rows in merge order, columns (channel, frame, y, x)."""
    time, _, h, w = video.shape
    x = (video - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    x = x.expand(max(time, 2), -1, -1, -1)
    t, y, z = len(x) // 2, h // (2 * PATCH), w // (2 * PATCH)
    x = x.reshape(t, 2, 3, y, 2, PATCH, z, 2, PATCH).permute(0, 3, 6, 4, 7, 2, 1, 5, 8)
    return x.reshape(t * y * z * 4, -1), [t, 2 * y, 2 * z]


def pictures(rows: int, *sizes: tuple[int, int]) -> list[Tensor]:
    g = torch.Generator().manual_seed(3)
    return [torch.rand(rows, 1, 3, *size, generator=g) for size in sizes]


def asked(rows: list[Row], images: list[Tensor], side: str) -> dict[str, Tensor]:
    """The reference's inputs: rows as long as they are, padded at one side."""
    ids: list[list[int]] = []
    for row in rows:
        seen = [[BEGIN] + [IMAGE] * (i.shape[-2] * i.shape[-1] // 64) + [END] for i in images]
        ids.append(row[0] + seen[0] + row[1] + seen[1] + row[2])
    most = max(map(len, ids))
    left = [(most - len(i)) * (side == "left") for i in ids]
    right = [most - len(i) - n for i, n in zip(ids, left)]
    padded = torch.tensor([[W.pad] * a + i + [W.pad] * b for a, i, b in zip(left, ids, right)])
    mask = torch.tensor([[0] * a + [1] * len(i) + [0] * b for a, i, b in zip(left, ids, right)])
    found = [flat(image[b]) for b in range(len(rows)) for image in images]
    return {
        "input_ids": padded,
        "attention_mask": mask,
        "mm_token_type_ids": (padded == IMAGE).long(),
        "pixel_values": torch.cat([x for x, _ in found]),
        "image_grid_thw": torch.tensor([grid for _, grid in found]),
    }


def passed(ours: VLM, rows: list[Row], images: list[Tensor], side: str) -> Trunk:
    """Our pass over the same: three runs of text, padded at one side each, and two pictures between them."""
    start = torch.zeros(len(rows), dtype=torch.int64)
    segments = []

    def read(name: str, texts: list[list[int]]) -> None:
        nonlocal start
        text = W.pack([t if side == "right" else t[::-1] for t in texts])
        ids, valid = (text.ids, text.valid) if side == "right" else (text.ids.flip(1), text.valid.flip(1))
        segments.append(Segment(name, ours.embed(ids), valid, text_position(valid, start)))
        start = start + valid.sum(1)

    for n, image in enumerate(images):
        read(f"text/{n}", [([END] if n else []) + row[n] + [BEGIN] for row in rows])
        seen = ours.see({"it": image})["it"]
        place = grid_position(len(rows), seen.grid) + start.view(-1, 1, 1)
        segments.append(Segment(f"image/{n}", seen.x, seen.valid, place))
        start = start + max(seen.grid)
    read("text", [[END] + row[-1] for row in rows])
    return ours(segments)


def scores(ours: VLM, trunk: Trunk) -> Tensor:
    """Logits of all valid tokens, row by row."""
    hidden, valid = (torch.cat(list(x.values()), 1) for x in (trunk.hidden, trunk.valid))
    return ours.logits(hidden)[valid]


ROWS: list[Row] = [([5, 6, 7], [], [8, 9, 10, 11]), ([12], [13, 14, 15, 16], [17]), ([], [18], [19, 20])]


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("sizes", list(zip(SIZES, SIZES[1:] + SIZES[:1])))
def test_logits_of_rows_with_two_pictures(sizes, side):
    theirs, ours = models()
    images = pictures(len(ROWS), *sizes)
    given = asked(ROWS, images, side)
    with torch.no_grad():
        want = theirs(**given).logits[given["attention_mask"].bool()]
        got = scores(ours, passed(ours, ROWS, images, side))
    assert want.abs().max() > 1
    assert (got - want).abs().max() <= 1e-4


@pytest.mark.parametrize(
    "wrong",
    [
        lambda order, sizes: (torch.arange(len(order)), sizes),  # cut at the right places, in the picture's order
        lambda order, sizes: (order, [(len(order), 1)]),  # all see all
        lambda order, sizes: (order.argsort(), sizes),  # done where it should be undone
    ],
)
def test_parity_is_lost_with_other_windows(wrong, monkeypatch):
    theirs, ours = models()
    images = pictures(len(ROWS), (32, 40), (56, 64))
    given = asked(ROWS, images, "right")
    right = vision_qwen25.windows
    monkeypatch.setattr(vision_qwen25, "windows", lambda *shape: wrong(*right(*shape)))
    with torch.no_grad():
        want = theirs(**given).logits[given["attention_mask"].bool()]
        got = scores(ours, passed(ours, ROWS, images, "right"))
    assert (got - want).abs().max() > 1e-2


@pytest.mark.parametrize("frames", [1, 2, 4])
def test_the_tower_by_itself_and_its_frames(frames):
    theirs, ours = models()
    for size in SIZES:
        video = torch.rand(frames, 3, *size, generator=torch.Generator().manual_seed(4))
        patches, grid = flat(video)
        with torch.no_grad():
            want = theirs.model.visual(patches, grid_thw=torch.tensor([grid])).pooler_output
            got = ours.see({"it": video.unsqueeze(0)})["it"]
        assert got.grid == (grid[0], grid[1] // 2, grid[2] // 2)
        assert (got.x[0] - want).abs().max() <= 1e-4
    with pytest.raises(BadData, match="multiples of 8"):
        ours.see({"it": torch.zeros(1, frames, 3, 8, 12)})


def test_gradients():
    theirs, ours = models()
    images = pictures(len(ROWS), (32, 40), (24, 48))
    given = asked(ROWS, images, "right")
    theirs(**given).logits[given["attention_mask"].bool()].square().mean().backward()
    scores(ours, passed(ours, ROWS, images, "right")).square().mean().backward()
    want = from_qwen({n: p.grad for n, p in theirs.named_parameters()})
    for name, p in ours.named_parameters():
        assert (p.grad - want[name]).abs().max() <= 2e-4 * want[name].abs().max(), name


def test_greedy_words_with_a_cache():
    theirs, ours = models()
    images = pictures(len(ROWS), (32, 40), (56, 16))
    told = [(*row[:2], [*row[2], *W.cue(SAY)]) for row in ROWS]
    given = asked(told, images, "left")
    with torch.no_grad():
        out = theirs.generate(
            **given, max_new_tokens=12, do_sample=False, use_cache=True, eos_token_id=W.end, pad_token_id=W.pad
        )[:, given["input_ids"].shape[1] :].tolist()
        trunk = passed(ours, ROWS, images, "left")
        _, said = ours.generate(trunk, [Turn(SAY, limit=12)], keys=Keys.seeded(0))
    assert said == [W.decode(row[: [*row, W.end].index(W.end)]) for row in out]
    assert len(set(said)) == len(said) and all(said)
