"""transformers' Gemma and PaliGemma: weights as a state dictionary of our VLM, and configs."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from mindhand.core.errors import BadCheckpoint

from .gemma import GemmaConfig
from .import_names import Names, renamed
from .transformers_folder import Fields
from .vision_siglip import SigLIPConfig
from .vlm import VLMConfig

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


def gemma_tower(f: Fields) -> GemmaConfig:
    """A tower from the config.json of a Gemma; what Gemma 2 and later have besides is refused."""
    f.only("model_type", "gemma")
    for name in ("hidden_act", "hidden_activation"):
        f.only(name, "gelu", "gelu_pytorch_tanh")  # "gelu" is meant to be the other, as transformers reads it
    f.only("attention_bias", False)
    names = "hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads"
    ffn, theta = f.count("intermediate_size"), f.rope(1e4)[0]
    return GemmaConfig(
        *(f.count(n) for n in names), f.count("head_dim", 256), ffn, theta, f.number("rms_norm_eps", 1e-6)
    )


def gemma(f: Fields) -> VLMConfig:
    """From the config.json of a Gemma; of later ones refused."""
    f.only("use_bidirectional_attention", False)
    return VLMConfig(gemma_tower(f), f.count("vocab_size"))


def paligemma(f: Fields) -> VLMConfig:
    """From the config.json of a PaliGemma, or from that part of another's."""
    text, v = f.part("text_config"), f.part("vision_config")
    text.only("use_bidirectional_attention", True)
    v.only("hidden_act", "gelu_pytorch_tanh")
    tower, patch, pixels = gemma_tower(text), v.count("patch_size"), v.count("image_size", 224)
    out = f.count("projection_dim", tower.width)
    if pixels % patch or out != tower.width:
        what = f"pictures of {pixels} pixels in patches of {patch}, projected to {out}"
        raise BadCheckpoint(what, f"whole patches, projected to {tower.width}", "check the config.json")
    names = "hidden_size", "num_hidden_layers", "num_attention_heads"
    ffn, eps = v.count("intermediate_size"), v.number("layer_norm_eps", 1e-6)
    eyes = SigLIPConfig(*(v.count(n) for n in names), patch, pixels // patch, ffn, out, eps)
    return VLMConfig(tower, text.count("vocab_size"), eyes)
