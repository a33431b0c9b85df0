"""Weights of transformers' Qwen2-VL (and Qwen2), as a state dictionary of our VLM."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from mindhand.core.errors import BadCheckpoint


def from_qwen(theirs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename and fuse: q, k, v and gate, up become one matrix each. Tensors are shared where nothing is fused.

    An output head that differs from the embedding (7 billion parameters and more) is `head.weight`: such weights load
    into a VLM with the edit `Untied` alone. Accepts names with any of transformers' prefixes ("model.",
    "model.language_model.", "model.visual.", "visual."). Raises BadCheckpoint for a name it does not know.
    """
    ours: dict[str, Tensor] = {}
    head: Tensor | None = None
    parts: dict[str, dict[str, Tensor]] = {}
    for name, x in theirs.items():
        short = name.removeprefix("model.").removeprefix("language_model.")
        if short.startswith("visual."):
            ours.update(_vision(short.removeprefix("visual."), x))
        elif short == "embed_tokens.weight":
            ours["embedding.weight"] = x
        elif short == "norm.weight":
            ours["towers.vlm.norm.weight"] = x
        elif short == "lm_head.weight":
            head = x
        elif short.startswith("layers."):
            _, l, rest = short.split(".", 2)
            at = f"towers.vlm.layers.{l}"
            plain = {
                "input_layernorm.weight": "norm1.weight",
                "post_attention_layernorm.weight": "norm2.weight",
                "self_attn.o_proj.weight": "attn.o.weight",
                "mlp.down_proj.weight": "ffn.down.weight",
            }
            if rest in plain:
                ours[f"{at}.{plain[rest]}"] = x
            elif rest.split(".")[-2] in ("q_proj", "k_proj", "v_proj"):
                parts.setdefault(f"{at}.attn.qkv.{rest.split('.')[-1]}", {})[rest.split(".")[-2]] = x
            elif rest.split(".")[-2] in ("gate_proj", "up_proj"):
                parts.setdefault(f"{at}.ffn.gate_up.weight", {})[rest.split(".")[-2]] = x
            else:
                raise _unknown(name)
        else:
            raise _unknown(name)
    for name, found in parts.items():
        order = ("q_proj", "k_proj", "v_proj") if ".qkv." in name else ("gate_proj", "up_proj")
        if set(found) != set(order):
            raise BadCheckpoint(f"{name} misses {set(order) - set(found)}", "all shards of the model", "load them all")
        ours[name] = torch.cat([found[p] for p in order])
    embedding = ours.get("embedding.weight")
    if head is not None and (embedding is None or not torch.equal(head, embedding)):
        ours["head.weight"] = head
    return ours


def _vision(short: str, x: Tensor) -> dict[str, Tensor]:
    if short == "patch_embed.proj.weight":
        return {"vision.patch.weight": x.flatten(1)}
    table = {
        "norm1": "norm1", "norm2": "norm2", "attn.qkv": "qkv", "attn.proj": "o", "mlp.fc1": "fc1", "mlp.fc2": "fc2",
    }  # fmt: skip
    if short.startswith("blocks."):
        _, l, rest = short.split(".", 2)
        what, kind = rest.rsplit(".", 1)
        if what in table:
            return {f"vision.blocks.{l}.{table[what]}.{kind}": x}
    merger = {"merger.ln_q": "vision.norm", "merger.mlp.0": "vision.merge.0", "merger.mlp.2": "vision.merge.2"}
    what, kind = short.rsplit(".", 1)
    if what in merger:
        return {f"{merger[what]}.{kind}": x}
    raise _unknown(f"visual.{short}")


def _unknown(name: str) -> BadCheckpoint:
    return BadCheckpoint(f"unknown tensor '{name}'", "a Qwen2 or Qwen2-VL state dictionary", "check the model's type")
