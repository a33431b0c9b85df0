"""Weights of transformers' Gemma, as a state dictionary of our VLM."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from .import_names import Names, renamed

ONCE = {"embed_tokens": "embedding", "norm": "towers.vlm.norm", "lm_head": "head"}
LAYER = {
    "input_layernorm": "norm1", "post_attention_layernorm": "norm2", "self_attn.o_proj": "attn.o",
    "self_attn.q_proj": "attn.qkv", "self_attn.k_proj": "attn.qkv", "self_attn.v_proj": "attn.qkv",
    "mlp.gate_proj": "ffn.gate_up", "mlp.up_proj": "ffn.gate_up", "mlp.down_proj": "ffn.down",
}  # fmt: skip
FUSED = ("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj")
GEMMA = Names("Gemma", ("model.",), ONCE, {"layers": ("towers.vlm.layers", LAYER)}, FUSED)


def from_gemma(theirs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename and fuse: q, k, v and gate, up become one matrix each. The output head is the embedding's table. Raises
    BadCheckpoint for a name it does not know."""
    return renamed(theirs, GEMMA)
