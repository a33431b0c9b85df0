"""Parity with transformers' Gemma on random weights, in the same process."""

from functools import cache

import pytest
import torch

from mindhand.core.errors import BadCheckpoint, BuildError
from mindhand.core.seams import Segment, text_position
from mindhand.model.gemma import GemmaConfig, GemmaNorm, ScaledEmbedding
from mindhand.model.import_gemma import from_gemma
from mindhand.model.moe import Upcycle
from mindhand.model.trunk import TowerConfig
from mindhand.model.vlm import VLM, VLMConfig

transformers = pytest.importorskip("transformers")

TOWER = GemmaConfig(48, 3, heads=4, groups=1, head_size=16, ffn=80)  # heads together are wider than the tower


@cache
def models():
    """Theirs, and ours with its weights."""
    torch.manual_seed(0)
    theirs = transformers.GemmaForCausalLM(
        transformers.GemmaConfig(
            vocab_size=99, hidden_size=48, intermediate_size=80, num_hidden_layers=3, num_attention_heads=4,
            num_key_value_heads=1, head_dim=16, max_position_embeddings=64, attn_implementation="eager",
        )
    ).eval()  # fmt: skip
    for p in theirs.parameters():
        torch.nn.init.normal_(p, std=0.15)
    ours = VLM(VLMConfig(TOWER, 99)).eval()
    ours.load_state_dict(from_gemma(theirs.state_dict()))
    return theirs, ours


def passed(ours: VLM, ids: torch.Tensor, valid: torch.Tensor):
    return ours([Segment("text", ours.embed(ids), valid, text_position(valid))])


def test_logits_and_gradients():
    theirs, ours = models()
    ids = torch.randint(1, 99, (2, 11))  # 0 is their padding, which has no gradient
    want = theirs(ids).logits
    got = ours.logits(passed(ours, ids, torch.ones_like(ids, dtype=torch.bool)).hidden["text"])
    assert want.abs().max() > 1
    assert (got - want).abs().max() <= 1e-4
    for model, logits in ((theirs, want), (ours, got)):
        model.zero_grad()
        logits.square().mean().backward()
    want = from_gemma({n: p.grad for n, p in theirs.named_parameters()})
    for name, p in ours.named_parameters():
        assert (p.grad - want[name]).abs().max() <= 2e-4 * want[name].abs().max(), name


def test_rows_of_other_lengths_and_a_cache():
    theirs, ours = models()
    ids = torch.randint(0, 99, (3, 9))
    valid = torch.arange(9) < torch.tensor([[9], [4], [6]])
    with torch.no_grad():
        want = theirs(ids, attention_mask=valid.long()).logits[valid]
        got = ours.logits(passed(ours, ids, valid).hidden["text"])[valid]
        trunk = passed(ours, ids[:, :2], valid[:, :2])
        for i in range(2, 9):
            one = valid[:, i : i + 1]
            trunk = trunk.extend([ours.text("text", ids[:, i : i + 1], one, trunk.end)])
    assert (got - want).abs().max() <= 1e-4
    assert (ours.logits(trunk.hidden["text"])[valid] - want).abs().max() <= 1e-4


@pytest.mark.parametrize(
    ("part", "wrong"),
    [
        ("norm", lambda self: torch.nn.RMSNorm(self.width, eps=self.eps)),  # by the weight, not by 1 + weight
        ("feed", TowerConfig.feed),  # SiLU
        ("table", TowerConfig.table),  # not times sqrt(D)
        ("theta", 1e6),
    ],
)
def test_parity_is_lost_with_another_part(part, wrong, monkeypatch):
    theirs, ours = models()
    ids = torch.randint(0, 99, (2, 11))
    monkeypatch.setattr(GemmaConfig, part, wrong)
    config = TOWER if callable(wrong) else GemmaConfig(48, 3, 4, 1, 16, 80, theta=wrong)
    other = VLM(VLMConfig(config, 99))
    other.load_state_dict(ours.state_dict())
    with torch.no_grad():
        want = theirs(ids).logits
        got = other.logits(passed(other, ids, torch.ones_like(ids, dtype=torch.bool)).hidden["text"])
    assert (got - want).abs().max() > 1e-2


def test_in_bfloat16_norm_and_embedding_round_as_theirs():
    theirs, _ = models()
    x, weight = torch.randn(64, 48).bfloat16(), 0.01 * torch.randn(48)
    norm = GemmaNorm(48, 1e-6)
    with torch.no_grad():
        norm.weight.copy_(weight)
        reference = type(theirs.model.norm)(48)
        reference.weight.copy_(weight)
        assert torch.equal(norm.bfloat16()(x), reference.bfloat16()(x))
        table = ScaledEmbedding(99, 48)
        table.load_state_dict(theirs.model.embed_tokens.state_dict())
        copy = type(theirs.model.embed_tokens)(99, 48, 0, 48**0.5)
        copy.load_state_dict(table.state_dict())
        ids = torch.arange(99)
        assert torch.equal(table.bfloat16()(ids), copy.bfloat16()(ids))


def test_what_is_made_for_another_block_is_refused():
    ours = VLM(VLMConfig(TOWER, 99))
    with pytest.raises(BuildError, match="GeGLU"):
        Upcycle().apply(ours)
    with pytest.raises(BuildError, match=r"TowerConfig.*\n.*GemmaConfig"):
        ours.add_tower("act", TowerConfig(16, 3, 4, 1, 16, 24, sections=(4, 2, 2)))
    ours.add_tower("act", GemmaConfig(16, 3, 4, 1, 16, 24))


@pytest.mark.parametrize(
    "name",
    [
        "model.layers.0.pre_feedforward_layernorm.weight",  # Gemma 2
        "model.layers.0.self_attn.q_norm.weight",  # Gemma 3
        "model.layers.0.mlp.gate_proj.scales",
        "model.visual.patch_embed.proj.weight",
    ],
)
def test_foreign_weights_are_refused(name):
    with pytest.raises(BadCheckpoint, match=f"unknown tensor '{name}'\n.*Gemma"):
        from_gemma({name: torch.zeros(1)})
    with pytest.raises(BadCheckpoint, match=r"two tensors for .embedding\.weight."):
        from_gemma({"model.embed_tokens.weight": torch.zeros(1), "embed_tokens.weight": torch.zeros(1)})
