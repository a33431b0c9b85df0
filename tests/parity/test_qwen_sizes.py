"""Published sizes against transformers' classes of the same numbers, on the meta device: every tensor, by name."""

import json

import pytest
import torch

from mindhand.model.configs import QWEN, vlm_config
from mindhand.model.import_qwen import from_qwen
from mindhand.model.store import PARTS
from mindhand.model.untied import Untied
from mindhand.model.vision_qwen25 import WindowViTConfig
from mindhand.model.vlm import VLM

transformers = pytest.importorskip("transformers")

TEXT = {  # of their config.json: hidden, layers, heads, key-value heads, intermediate, vocabulary, tied
    "qwen2-vl-2b": (1536, 28, 12, 2, 8960, 151_936, True),
    "qwen2-vl-7b": (3584, 28, 28, 4, 18_944, 152_064, False),
    "qwen2.5-vl-3b": (2048, 36, 16, 2, 11_008, 151_936, True),
    "qwen2.5-vl-7b": (3584, 28, 28, 4, 18_944, 152_064, False),
}
BILLIONS = {"qwen2-vl-2b": 2.209, "qwen2-vl-7b": 8.291, "qwen2.5-vl-3b": 3.755, "qwen2.5-vl-7b": 8.292}


def theirs(name: str) -> torch.nn.Module:
    hidden, layers, heads, groups, ffn, vocabulary, tied = TEXT[name]
    text = dict(
        hidden_size=hidden, num_hidden_layers=layers, num_attention_heads=heads, num_key_value_heads=groups,
        intermediate_size=ffn, vocab_size=vocabulary, tie_word_embeddings=tied, rms_norm_eps=1e-6,
    )  # fmt: skip
    common = dict(depth=32, num_heads=16, patch_size=14)
    if name.startswith("qwen2.5"):
        eyes = dict(**common, hidden_size=1280, intermediate_size=3420, out_hidden_size=hidden)
        config = transformers.Qwen2_5_VLConfig(text_config=text, vision_config=eyes, tie_word_embeddings=tied)
        return transformers.Qwen2_5_VLForConditionalGeneration(config)
    eyes = dict(**common, embed_dim=1280, mlp_ratio=4, hidden_size=hidden)
    config = transformers.Qwen2VLConfig(text_config=text, vision_config=eyes, tie_word_embeddings=tied)
    return transformers.Qwen2VLForConditionalGeneration(config)


@pytest.mark.parametrize("name", QWEN)
def test_every_tensor_has_its_place(name):
    with torch.device("meta"):
        want = {n: p for n, p in theirs(name).named_parameters()}
        ours = VLM(vlm_config(name))
        if not TEXT[name][-1]:
            Untied().apply(ours)
    head = want.pop("lm_head.weight", None)  # values decide whether it is one of its own, and there are none here
    got = {n: p.shape for n, p in ours.named_parameters()}
    assert (head is None) == TEXT[name][-1] and got.pop("head.weight", None) == getattr(head, "shape", None)
    assert got == {n: p.shape for n, p in from_qwen(want).items()}
    assert sum(p.numel() for p in ours.parameters()) / 1e9 == pytest.approx(BILLIONS[name], abs=1e-3)


@pytest.mark.parametrize("name", QWEN)
def test_a_checkpoint_can_hold_it(name):
    stored = json.loads(json.dumps(PARTS.describe("vlm", vlm_config(name))))
    with torch.device("meta"):
        assert PARTS.build(stored, words=None).config == vlm_config(name)


def test_other_numbers_of_the_window_are_the_reference_s():
    theirs, ours = transformers.Qwen2_5_VLConfig().vision_config, WindowViTConfig()
    assert ours.window * ours.merge * ours.patch == theirs.window_size
    assert (ours.whole, ours.merge) == (tuple(theirs.fullatt_block_indexes), theirs.spatial_merge_size)
    assert (ours.frames, ours.ffn) == (theirs.temporal_patch_size, theirs.intermediate_size)
