"""Named sizes: `test` (seconds), `nano` (a CPU's minutes), `small` (its hours), `qwen2-vl-2b` with ScaleDP (the
paper's), and others whose weights can be imported."""

from __future__ import annotations

from dataclasses import replace

from .expert import ExpertConfig
from .gemma import GemmaConfig
from .trunk import TowerConfig
from .vision import StemConfig, ViTConfig
from .vision_qwen25 import WindowViTConfig
from .vision_siglip import SigLIPConfig
from .vlm import VLMConfig

QWEN: dict[str, VLMConfig] = {  # as their config.json say; see `untied` for the output head of those of 7B
    "qwen2-vl-2b": VLMConfig(TowerConfig(1536, 28, heads=12, groups=2, head_size=128, ffn=8960), 151_936, ViTConfig()),
    "qwen2-vl-7b": VLMConfig(
        TowerConfig(3584, 28, heads=28, groups=4, head_size=128, ffn=18_944), 152_064, ViTConfig(out=3584)
    ),
    "qwen2.5-vl-3b": VLMConfig(
        TowerConfig(2048, 36, heads=16, groups=2, head_size=128, ffn=11_008), 151_936, WindowViTConfig()
    ),
    "qwen2.5-vl-7b": VLMConfig(
        TowerConfig(3584, 28, heads=28, groups=4, head_size=128, ffn=18_944), 152_064, WindowViTConfig(out=3584)
    ),
}

GEMMA: dict[str, VLMConfig] = {  # at 224 pixels; with the edit `WholePrompt`
    "paligemma-3b": VLMConfig(
        GemmaConfig(2048, 18, heads=8, groups=1, head_size=256, ffn=16_384), 257_152, SigLIPConfig()
    ),
}
PUBLISHED = {**QWEN, **GEMMA}


def vlm_config(name: str, vocabulary: int | None = None) -> VLMConfig:
    """The VLM of a named size; `vocabulary` as the tokenizer has it (published ones bring their own). Those of 7B also
    need the edit `Untied`, PaliGemma `WholePrompt`. ValueError, with the names there are, for another one."""
    if name in PUBLISHED:
        return PUBLISHED[name] if vocabulary is None else replace(PUBLISHED[name], vocabulary=vocabulary)
    if vocabulary is None:
        raise ValueError(f"config '{name}' needs the size of its tokenizer's vocabulary")
    if name == "nano":
        tower = TowerConfig(128, 5, heads=4, groups=4, head_size=32, ffn=384, theta=1e4, sections=(4, 6, 6))
        return VLMConfig(tower, vocabulary, StemConfig(blocks=(0, 0, 1, 0)), whole_pictures=True)
    if name == "small":
        tower = TowerConfig(256, 9, heads=8, groups=8, head_size=32, ffn=768, theta=1e4, sections=(4, 6, 6))
        stem = StemConfig(channels=(48, 96, 144, 256), out=256, blocks=(0, 0, 1, 0))
        return VLMConfig(tower, vocabulary, stem, whole_pictures=True)
    if name == "test":
        tower = TowerConfig(32, 2, heads=4, groups=2, head_size=8, ffn=64, theta=1e4, sections=(2, 1, 1))
        return VLMConfig(tower, vocabulary, StemConfig(channels=(8, 8, 8, 16), out=32))
    raise ValueError(f"no config '{name}': expected test, nano, small, {' or '.join(PUBLISHED)}")


def expert_config(name: str, *, action: int, horizon: int, state: int, trunk: int) -> ExpertConfig:
    """The expert of a named size: scaledp-h ("1B"), scaledp-l (0.4B), nano, test."""
    sizes = {"scaledp-h": (1280, 32, 16), "scaledp-l": (1024, 24, 16), "nano": (128, 4, 4), "test": (32, 4, 2)}
    if name not in sizes:
        raise ValueError(f"no expert config '{name}': expected one of {sorted(sizes)}")
    width, layers, heads = sizes[name]
    return ExpertConfig(action, horizon, state, trunk, width, layers, heads)
