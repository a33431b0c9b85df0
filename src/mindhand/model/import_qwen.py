"""Weights of transformers' Qwen2-VL and Qwen2.5-VL (and Qwen2), as a state dictionary of our VLM."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from .import_names import Names, renamed

ONCE = {  # names of theirs, without "weight" or "bias": ours
    "embed_tokens": "embedding", "norm": "towers.vlm.norm", "lm_head": "head",
    "visual.patch_embed.proj": "vision.patch", "visual.merger.ln_q": "vision.norm",
    "visual.merger.mlp.0": "vision.merge.0", "visual.merger.mlp.2": "vision.merge.2",
}  # fmt: skip
LAYER = {  # in a layer of the language tower
    "input_layernorm": "norm1", "post_attention_layernorm": "norm2", "self_attn.o_proj": "attn.o",
    "self_attn.q_proj": "attn.qkv", "self_attn.k_proj": "attn.qkv", "self_attn.v_proj": "attn.qkv",
    "mlp.gate_proj": "ffn.gate_up", "mlp.up_proj": "ffn.gate_up", "mlp.down_proj": "ffn.down",
}  # fmt: skip
BLOCK = {  # in a block of the vision tower: of Qwen2-VL (fc1, fc2) or Qwen2.5-VL
    "norm1": "norm1", "norm2": "norm2", "attn.qkv": "qkv", "attn.proj": "o", "mlp.fc1": "fc1", "mlp.fc2": "fc2",
    "mlp.gate_proj": "gate_up", "mlp.up_proj": "gate_up", "mlp.down_proj": "down",
}  # fmt: skip
NAMES = Names(
    of="Qwen2, Qwen2-VL or Qwen2.5-VL",
    drop=("model.", "language_model."),
    once=ONCE,
    layers={"layers": ("towers.vlm.layers", LAYER), "visual.blocks": ("vision.blocks", BLOCK)},
    fused=(("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj")),
    flat="vision.patch",
)


def from_qwen(theirs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename and fuse: q, k, v and gate, up become one matrix each. Tensors are shared where nothing is fused.

    An output head that differs from the embedding (7 billion parameters and more) is `head.weight`: such weights load
    into a VLM with the edit `Untied` alone. Accepts names with any of transformers' prefixes ("model.",
    "model.language_model.", "model.visual.", "visual."). Raises BadCheckpoint for a name it does not know.
    """
    return renamed(theirs, NAMES)
