"""Parity with transformers' Qwen2 and Qwen2-VL on random weights, in the same process."""

import re

import pytest
import torch

from mindhand.core.errors import BadCheckpoint
from mindhand.core.seams import Segment, grid_position, text_position
from mindhand.model.import_qwen import from_qwen
from mindhand.model.trunk import TowerConfig
from mindhand.model.untied import Untied
from mindhand.model.vision import ViTConfig
from mindhand.model.vlm import VLM, VLMConfig

transformers = pytest.importorskip("transformers")


@pytest.mark.parametrize("tied", [True, False])
def test_qwen2_decoder_logits_and_gradients(tied):
    torch.manual_seed(0)
    theirs = transformers.Qwen2ForCausalLM(
        transformers.Qwen2Config(
            vocab_size=99, hidden_size=48, intermediate_size=80, num_hidden_layers=3, num_attention_heads=6,
            num_key_value_heads=2, tie_word_embeddings=tied, rope_theta=1e6, max_position_embeddings=64,
            attn_implementation="eager", use_sliding_window=False,
        )
    )  # fmt: skip
    for p in theirs.parameters():
        torch.nn.init.normal_(p, std=0.3)
    tower = TowerConfig(48, 3, heads=6, groups=2, head_size=8, ffn=80, sections=(2, 1, 1))
    ours = VLM(VLMConfig(tower, 99))
    if not tied:
        with pytest.raises(RuntimeError, match=r"Unexpected.*head"):
            ours.load_state_dict(from_qwen(theirs.state_dict()))
        Untied().apply(ours)
    ours.load_state_dict(from_qwen(theirs.state_dict()))
    ids = torch.randint(0, 99, (2, 11))
    valid = torch.ones_like(ids, dtype=torch.bool)
    want = theirs(ids).logits
    trunk = ours([Segment("text", ours.embed(ids), valid, text_position(valid))])
    got = ours.logits(trunk.hidden["text"])
    assert (got - want).abs().max() < 1e-4 * want.abs().max()
    want.square().mean().backward()
    got.square().mean().backward()
    theirs_grad = from_qwen({n: p.grad for n, p in theirs.named_parameters()})
    for name, p in ours.named_parameters():
        assert (p.grad - theirs_grad[name]).abs().max() <= 2e-4 * theirs_grad[name].abs().max(), name


def test_qwen2_vl_with_pictures():
    torch.manual_seed(0)
    theirs = transformers.Qwen2VLForConditionalGeneration(
        transformers.Qwen2VLConfig(
            text_config=dict(
                vocab_size=120, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
                num_key_value_heads=2, tie_word_embeddings=True, attn_implementation="eager", rms_norm_eps=1e-6,
                rope_parameters={"rope_type": "default", "rope_theta": 1e6, "mrope_section": [2, 3, 3]},
            ),
            vision_config=dict(depth=2, embed_dim=32, num_heads=2, hidden_size=64, mlp_ratio=4, patch_size=4,
                               spatial_merge_size=2, temporal_patch_size=2),
            image_token_id=101, vision_start_token_id=102, vision_end_token_id=103, tie_word_embeddings=True,
        )
    ).eval()  # fmt: skip
    for p in theirs.parameters():
        torch.nn.init.normal_(p, std=0.15)
    tower = TowerConfig(64, 2, heads=4, groups=2, head_size=16, ffn=96, sections=(2, 3, 3))
    vision = ViTConfig(width=32, layers=2, heads=2, patch=4, out=64)
    ours = VLM(VLMConfig(tower, 120, vision))
    ours.load_state_dict(from_qwen(theirs.state_dict()))
    image = torch.rand(1, 1, 3, 16, 24)
    patches = ours.see({"front": image})["front"]
    # the reference takes flattened patches, rows in merge order, columns (channel, frame, y, x)
    c = vision
    norm = (image - torch.tensor(c.mean).view(3, 1, 1)) / torch.tensor(c.std).view(3, 1, 1)
    p = norm.expand(-1, 2, -1, -1, -1)[0].reshape(1, 2, 3, 2, 2, 4, 3, 2, 4)
    flat = p.permute(0, 3, 6, 4, 7, 2, 1, 5, 8).reshape(24, -1)
    grid = torch.tensor([[1, 4, 6]])
    head, tail = [5, 6, 102], [103, 7, 8, 9]
    ids = torch.tensor([head + [101] * 6 + tail])
    kind = torch.tensor([[0] * 3 + [1] * 6 + [0] * 4])
    with torch.no_grad():
        want = theirs(input_ids=ids, pixel_values=flat, image_grid_thw=grid, mm_token_type_ids=kind).logits

    def text(name: str, ids: list[int], start: int) -> Segment:
        t = torch.tensor([ids])
        valid = torch.ones_like(t, dtype=torch.bool)
        return Segment(name, ours.embed(t), valid, text_position(valid, start))

    see = Segment("image/front", patches.x, patches.valid, grid_position(1, patches.grid, 3))
    assert patches.grid == (1, 2, 3)
    trunk = ours([text("text/head", head, 0), see, text("text", tail, 3 + 3)])
    got = ours.logits(torch.cat([trunk.hidden[n] for n in ("text/head", "image/front", "text")], 1))
    assert (got - want).abs().max() < 1e-4 * want.abs().max()
    assert int(trunk.end) == 10


@pytest.mark.parametrize(
    "name",
    [
        "model.layers.0.attention.wq.weight",
        "model.layers.0.self_attn.q_norm.weight",  # Qwen3
        "model.layers.0.mlp.experts.1.gate_proj.weight",  # a mixture's
        "model.layers.0.mlp.gate_proj.scales",  # quantized
        "model.visual.blocks.0.mlp.linear_fc1.weight",  # Qwen3-VL
        "model.visual.pos_embed.weight",
        "model.visual.merger.mlp.2.extra.weight",
        "model.norms",
        "weight",
    ],
)
def test_foreign_weights_are_refused(name):
    with pytest.raises(BadCheckpoint, match=rf"unknown tensor '{re.escape(name)}'\n.*Qwen2, Qwen2-VL or Qwen2\.5-VL"):
        from_qwen({name: torch.zeros(1)})


@pytest.mark.parametrize("part", ["self_attn.q_proj.weight", "mlp.up_proj.weight"])
def test_half_of_what_is_fused_is_refused(part):
    with pytest.raises(BadCheckpoint, match="misses"):
        from_qwen({f"model.layers.0.{part}": torch.zeros(1, 1)})
