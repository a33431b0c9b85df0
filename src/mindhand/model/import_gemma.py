"""Weights of transformers' Gemma and PaliGemma, as a state dictionary of our VLM."""

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
EYES = "vision_tower.", "vision_tower.vision_model."  # as they are written now, and as they were
EYES_ONCE = {
    "embeddings.patch_embedding": "vision.patch", "embeddings.position_embedding": "vision.place",
    "post_layernorm": "vision.norm",
}  # fmt: skip
BLOCK = {
    "layer_norm1": "norm1", "layer_norm2": "norm2", "self_attn.out_proj": "o", "mlp.fc1": "fc1", "mlp.fc2": "fc2",
    "self_attn.q_proj": "qkv", "self_attn.k_proj": "qkv", "self_attn.v_proj": "qkv",
}  # fmt: skip
FUSED = ("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj")
GEMMA = Names("Gemma", ("model.",), ONCE, {"layers": ("towers.vlm.layers", LAYER)}, FUSED)
PALIGEMMA = Names(
    of="PaliGemma",
    drop=("model.", "language_model.", "model."),
    once={
        **ONCE, "multi_modal_projector.linear": "vision.project",
        **{f"{at}{theirs}": ours for at in EYES for theirs, ours in EYES_ONCE.items()},
    },
    layers={**GEMMA.layers, **{f"{at}encoder.layers": ("vision.blocks", BLOCK) for at in EYES}},
    fused=FUSED,
    flat="vision.patch",
)  # fmt: skip


def from_gemma(theirs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename and fuse: q, k, v and gate, up become one matrix each. The output head is the embedding's table. Raises
    BadCheckpoint for a name it does not know."""
    return renamed(theirs, GEMMA)


def from_paligemma(theirs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same of a Gemma with SigLIP's vision tower and a linear projector, by names of old and new transformers."""
    return renamed(theirs, PALIGEMMA)
