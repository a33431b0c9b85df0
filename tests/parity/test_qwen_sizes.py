"""Published sizes against transformers' classes of the same numbers, on the meta device: every tensor, by name."""

import pytest
import torch

from mindhand.model.configs import QWEN, vlm_config
from mindhand.model.import_qwen import from_qwen
from mindhand.model.untied import Untied
from mindhand.model.vlm import VLM

transformers = pytest.importorskip("transformers")

TEXT = {  # of their config.json: hidden, layers, heads, key-value heads, intermediate, vocabulary, tied
    "qwen2-vl-2b": (1536, 28, 12, 2, 8960, 151_936, True),
    "qwen2-vl-7b": (3584, 28, 28, 4, 18_944, 152_064, False),
}
BILLIONS = {"qwen2-vl-2b": 2.209, "qwen2-vl-7b": 8.291}


def theirs(name: str) -> torch.nn.Module:
    hidden, layers, heads, groups, ffn, vocabulary, tied = TEXT[name]
    config = transformers.Qwen2VLConfig(
        text_config=dict(
            hidden_size=hidden, num_hidden_layers=layers, num_attention_heads=heads, num_key_value_heads=groups,
            intermediate_size=ffn, vocab_size=vocabulary, tie_word_embeddings=tied, rms_norm_eps=1e-6,
        ),
        vision_config=dict(depth=32, embed_dim=1280, hidden_size=hidden, num_heads=16, mlp_ratio=4, patch_size=14),
        tie_word_embeddings=tied,
    )  # fmt: skip
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
