"""Models of others, by the model_type in their config.json: the one list of what can be imported.

found = import_folder("a local folder of transformers")
vlm = found.vlm(words)                      # with its weights
vla = VLA(backbone=vlm, edits=found.edits, ...)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from mindhand.core.checkpoint import load_into
from mindhand.core.errors import BadCheckpoint
from mindhand.core.parts import apply_edits
from mindhand.core.seams import Edit

from .gemma import GemmaConfig
from .import_gemma import from_gemma, from_paligemma
from .import_qwen import from_qwen
from .transformers_folder import Fields, read_json, read_tensors
from .trunk import TowerConfig
from .untied import Untied
from .vision import ViTConfig
from .vision_qwen25 import WindowViTConfig
from .vision_siglip import SigLIPConfig
from .vlm import VLM, VLMConfig
from .whole_prompt import WholePrompt
from .words import Words

Read = Callable[[Mapping[str, Tensor]], dict[str, Tensor]]


def _rope(f: Fields, theta: float | None = None) -> tuple[float, Fields]:
    """theta (by default the given one) and what else is said of rotary positions, as transformers says it now or said
    it before."""
    place = next((n for n in ("rope_parameters", "rope_scaling") if n in f), None)
    how = Fields({}, "") if place is None else f.part(place)
    for name in ("rope_type", "type"):
        how.only(name, "default", "mrope")
    return (how if "rope_theta" in how else f).number("rope_theta", theta), how


def _qwen_tower(f: Fields, pictures: bool) -> TowerConfig:
    f.only("hidden_act", "silu")
    f.only("use_sliding_window", False)
    width, heads, (theta, how) = f.count("hidden_size"), f.count("num_attention_heads"), _rope(f)
    size = f.count("head_dim", width // heads)
    # A text counts all three axes alike, so that of a text model alone no division of frequencies can be told.
    sections = how.counts("mrope_section") if pictures else (size // 2, 0, 0)
    if len(sections) != 3 or sum(sections) != size // 2:
        raise BadCheckpoint(f"mrope_section {sections}", f"three that add up to {size // 2}", "check the config.json")
    layers, groups, ffn = (f.count(n) for n in ("num_hidden_layers", "num_key_value_heads", "intermediate_size"))
    return TowerConfig(width, layers, heads, groups, size, ffn, theta, sections, f.number("rms_norm_eps"))


def _qwen2(f: Fields) -> VLMConfig:
    return VLMConfig(_qwen_tower(f, False), f.count("vocab_size"))


def _patches(f: Fields) -> dict[str, int]:
    names = {"layers": "depth", "heads": "num_heads", "patch": "patch_size"}
    more = {"frames": "temporal_patch_size", "merge": "spatial_merge_size"}
    return {**{o: f.count(t) for o, t in names.items()}, **{o: f.count(t, 2) for o, t in more.items()}}


def _qwen2_vl(f: Fields) -> VLMConfig:
    text, v = f.part("text_config") if "text_config" in f else f, f.part("vision_config")
    v.only("hidden_act", "quick_gelu")
    eyes = ViTConfig(v.count("embed_dim"), ratio=v.count("mlp_ratio", 4), out=v.count("hidden_size"), **_patches(v))
    return VLMConfig(_qwen_tower(text, True), text.count("vocab_size"), eyes)


def _qwen2_5_vl(f: Fields) -> VLMConfig:
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
    return VLMConfig(_qwen_tower(text, True), text.count("vocab_size"), eyes)


def gemma_tower(f: Fields) -> GemmaConfig:
    """A tower from the config.json of a Gemma; what Gemma 2 and later have besides is refused."""
    f.only("model_type", "gemma")
    for name in ("hidden_act", "hidden_activation"):
        f.only(name, "gelu", "gelu_pytorch_tanh")  # "gelu" is meant to be the other, as transformers reads it
    f.only("attention_bias", False)
    names = "hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads"
    ffn, theta = f.count("intermediate_size"), _rope(f, 1e4)[0]
    return GemmaConfig(
        *(f.count(n) for n in names), f.count("head_dim", 256), ffn, theta, f.number("rms_norm_eps", 1e-6)
    )


def _gemma(f: Fields) -> VLMConfig:
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


@dataclass(frozen=True)
class Family:
    """Models of one model_type: their config as ours, their tensors as ours, and the edits that make a VLM theirs."""

    config: Callable[[Fields], VLMConfig]
    tensors: Read
    edits: tuple[Edit, ...] = ()


FAMILIES: dict[str, Family] = {
    "qwen2": Family(_qwen2, from_qwen),
    "qwen2_vl": Family(_qwen2_vl, from_qwen),
    "qwen2_5_vl": Family(_qwen2_5_vl, from_qwen),
    "gemma": Family(_gemma, from_gemma),
    "paligemma": Family(paligemma, from_paligemma, (WholePrompt(),)),
}


@dataclass(frozen=True)
class Imported:
    """What a folder holds: a VLM's config, the edits that it needs, and its tensors by our names."""

    config: VLMConfig
    edits: tuple[Edit, ...]
    tensors: Mapping[str, Tensor]

    def vlm(self, words: Words | None = None) -> VLM:
        """The VLM with its edits and weights, in float32. A policy made of it lists the edits again, for whoever loads
        its checkpoint. BadCheckpoint, naming every tensor, where names or shapes are not the config's."""
        made = VLM(self.config, words)
        apply_edits(made, self.edits)
        load_into(made, self.tensors)
        return made.eval()


def import_folder(folder: Path | str) -> Imported:
    """Read a local folder of transformers. BadCheckpoint for a model_type that is not known, which lists those that
    are, and for whatever is missing, damaged or not understood."""
    folder = Path(folder)
    config = read_json(folder / "config.json")
    kind = config.get("model_type")
    if kind not in FAMILIES:
        raise BadCheckpoint(
            f"{folder}: model_type {kind!r}", f"one of {sorted(FAMILIES)}", "take a model of a kind that is known"
        )
    family, fields = FAMILIES[kind], Fields(config, str(folder / "config.json"))
    tensors = family.tensors(read_tensors(folder))
    own = "head.weight" in tensors
    if own:
        text = fields.part("text_config") if "text_config" in fields else fields
        for f in (fields, text):
            f.only("tie_word_embeddings", False)  # a head that is ignored, or one that is not: they write otherwise
    return Imported(family.config(fields), (*family.edits, *([Untied()] if own else [])), tensors)
