"""transformers' Qwen2-VL and Qwen2.5-VL (and Qwen2): weights as a state dictionary of our VLM, and configs."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from mindhand.core.errors import BadCheckpoint

from .import_names import Names, renamed
from .transformers_folder import Fields
from .trunk import TowerConfig
from .vision import ViTConfig
from .vision_qwen25 import WindowViTConfig
from .vlm import VLMConfig

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


def _tower(f: Fields, pictures: bool) -> TowerConfig:
    f.only("hidden_act", "silu")
    f.only("use_sliding_window", False)
    width, heads, (theta, how) = f.count("hidden_size"), f.count("num_attention_heads"), f.rope()
    size = f.count("head_dim", width // heads)
    # A text counts all three axes alike, so that of a text model alone no division of frequencies can be told.
    sections = how.counts("mrope_section") if pictures else (size // 2, 0, 0)
    if len(sections) != 3 or sum(sections) != size // 2:
        raise BadCheckpoint(f"mrope_section {sections}", f"three that add up to {size // 2}", "check the config.json")
    layers, groups, ffn = (f.count(n) for n in ("num_hidden_layers", "num_key_value_heads", "intermediate_size"))
    return TowerConfig(width, layers, heads, groups, size, ffn, theta, sections, f.number("rms_norm_eps"))


def qwen2(f: Fields) -> VLMConfig:
    """From the config.json of a Qwen2."""
    return VLMConfig(_tower(f, False), f.count("vocab_size"))


def _patches(f: Fields) -> dict[str, int]:
    names = {"layers": "depth", "heads": "num_heads", "patch": "patch_size"}
    more = {"frames": "temporal_patch_size", "merge": "spatial_merge_size"}
    return {**{o: f.count(t) for o, t in names.items()}, **{o: f.count(t, 2) for o, t in more.items()}}


def qwen2_vl(f: Fields) -> VLMConfig:
    """From the config.json of a Qwen2-VL."""
    text, v = f.part("text_config") if "text_config" in f else f, f.part("vision_config")
    v.only("hidden_act", "quick_gelu")
    eyes = ViTConfig(v.count("embed_dim"), ratio=v.count("mlp_ratio", 4), out=v.count("hidden_size"), **_patches(v))
    return VLMConfig(_tower(text, True), text.count("vocab_size"), eyes)


def qwen2_5_vl(f: Fields) -> VLMConfig:
    """From the config.json of a Qwen2.5-VL."""
    text, v = f.part("text_config") if "text_config" in f else f, f.part("vision_config")
    v.only("hidden_act", "silu")
    sizes = _patches(v)
    eyes = WindowViTConfig(
        v.count("hidden_size"),
        ffn=v.count("intermediate_size"),
        window=v.count("window_size") // (sizes["patch"] * sizes["merge"]),
        whole=v.counts("fullatt_block_indexes"),
        out=v.count("out_hidden_size"),
        **sizes,
    )
    return VLMConfig(_tower(text, True), text.count("vocab_size"), eyes)
