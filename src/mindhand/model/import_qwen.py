"""Weights of transformers' Qwen2-VL and Qwen2.5-VL (and Qwen2), as a state dictionary of our VLM."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from mindhand.core.errors import BadCheckpoint

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
FUSED = ("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj")  # what becomes one matrix, in the order of its rows


def from_qwen(theirs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename and fuse: q, k, v and gate, up become one matrix each. Tensors are shared where nothing is fused.

    An output head that differs from the embedding (7 billion parameters and more) is `head.weight`: such weights load
    into a VLM with the edit `Untied` alone. Accepts names with any of transformers' prefixes ("model.",
    "model.language_model.", "model.visual.", "visual."). Raises BadCheckpoint for a name it does not know.
    """
    ours: dict[str, Tensor] = {}
    parts: dict[str, dict[str, Tensor]] = {}
    for name, x in theirs.items():
        place, part = _place(name)
        if any(part in order for order in FUSED):
            parts.setdefault(place, {})[part] = x
        else:
            ours[place] = x.flatten(1) if place == "vision.patch.weight" else x
    for place, found in parts.items():
        order = next(order for order in FUSED if found.keys() <= set(order))
        if missing := set(order) - found.keys():
            raise BadCheckpoint(f"{place} misses {sorted(missing)}", "all shards of the model", "load them all")
        ours[place] = torch.cat([found[part] for part in order])
    head, embedding = ours.get("head.weight"), ours.get("embedding.weight")
    if head is not None and embedding is not None and torch.equal(head, embedding):
        del ours["head.weight"]
    return ours


def _place(name: str) -> tuple[str, str]:
    """The name of ours, and the last word of theirs before "weight" or "bias"."""
    what, _, kind = name.removeprefix("model.").removeprefix("language_model.").rpartition(".")
    found = re.fullmatch(r"(layers|visual\.blocks)\.(\d+)\.(.+)", what)
    at, table, rest = "", ONCE, what
    if found:
        table = LAYER if found[1] == "layers" else BLOCK
        at, rest = f"{'towers.vlm.layers' if table is LAYER else 'vision.blocks'}.{found[2]}.", found[3]
    if kind not in ("weight", "bias") or rest not in table:
        known = "a state dictionary of Qwen2, Qwen2-VL or Qwen2.5-VL"
        raise BadCheckpoint(f"unknown tensor '{name}'", known, "check the model_type in its config.json")
    return f"{at}{table[rest]}.{kind}", rest.rpartition(".")[2]
