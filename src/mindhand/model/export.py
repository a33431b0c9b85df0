"""A VLM as a local folder of transformers: what `imports` reads of Qwen2, Qwen2-VL and Qwen2.5-VL, written back.

export_folder(vla, "a folder")     # its VLM alone: config.json, safetensors, and the tokenizer where it has one
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from mindhand.core.errors import BuildError
from mindhand.core.folder import replacing_folder
from mindhand.core.seams import CAUSAL

from .import_qwen import BLOCK, LAYER, NAMES, ONCE
from .low_rank import LowRankLinear
from .tokenizer_folder import token_files
from .transformers_folder import INDEX, WHOLE
from .trunk import TowerConfig
from .untied import Untied
from .vision import MEAN, STD, ViTConfig
from .vision_qwen25 import WindowViTConfig
from .vlm import VLM
from .words import Words

SHARD = 5 * 10**9  # bytes of one file, at most, unless a single tensor has more
KINDS: dict[type, tuple[str, str]] = {  # by the eyes: model_type, and transformers' class
    type(None): ("qwen2", "Qwen2ForCausalLM"),
    ViTConfig: ("qwen2_vl", "Qwen2VLForConditionalGeneration"),
    WindowViTConfig: ("qwen2_5_vl", "Qwen2_5_VLForConditionalGeneration"),
}
TOKENS = {  # fields of config.json, and the word whose id stands there
    "image_token_id": "<|image_pad|>", "video_token_id": "<|video_pad|>",
    "vision_start_token_id": "<|vision_start|>", "vision_end_token_id": "<|vision_end|>",
}  # fmt: skip


def export_folder(model: nn.Module, folder: Path | str) -> None:
    """Write the VLM of a policy, or a VLM, whole or not at all; LoRA is added to the weights that it stands beside.

    How pictures are prepared and chats framed (preprocessor_config.json, a chat template) is the original's: copy them
    beside it. BuildError for what transformers has no place for: another decoder, other eyes, more towers, another rule
    of attention, or layers that are no plain ones (a mixture, a wider FFN)."""
    vlm: Any = getattr(model, "backbone", model)
    if not isinstance(vlm, VLM):
        raise BuildError(f"a {type(vlm).__name__}", "a VLM, or a policy with one", "export its VLM")
    c = vlm.config
    if type(c.tower) is not TowerConfig or not c.tower.bias or type(c.vision) not in KINDS:
        what = f"a decoder by {type(c.tower).__name__} with eyes by {type(c.vision).__name__}"
        raise BuildError(what, "Qwen2, Qwen2-VL or Qwen2.5-VL", "save it by save_vla")
    if more := sorted(set(vlm.towers) - {"vlm"}):
        raise BuildError(f"towers {more} beside the VLM's", "one", "take the VLM out before they are added")
    if tuple(vlm.rule) != tuple(CAUSAL):
        raise BuildError("a rule of attention of its own", "the causal one", "save it by save_vla")
    if isinstance(c.vision, ViTConfig) and (c.vision.mean, c.vision.std) != (MEAN, STD):
        raise BuildError("pictures normalised otherwise", f"mean {MEAN}, std {STD}", "save it by save_vla")
    tensors = _theirs(vlm, _merged(vlm))
    with replacing_folder(Path(folder)) as fresh:
        (fresh / "config.json").write_text(json.dumps(_config(vlm), indent=1) + "\n")
        for name, data in token_files(vlm.words).items() if isinstance(vlm.words, Words) else ():
            (fresh / name).write_bytes(data)
        _write(tensors, fresh)


def _merged(vlm: VLM) -> dict[str, Tensor]:
    """Our tensors, with LoRA added; BuildError unless they are those of the config."""
    ours = dict(vlm.state_dict())
    for name, m in vlm.named_modules():
        if isinstance(m, LowRankLinear):
            for part in ("low_in", "low_out"):
                del ours[f"{name}.{part}"]
            if m.base.bias is not None:
                ours[f"{name}.bias"] = ours.pop(f"{name}.base.bias")
            low = m.scale * (m.low_out.detach() @ m.low_in.detach())
            ours[f"{name}.weight"] = ours.pop(f"{name}.base.weight") + low
    with torch.device("meta"):
        plain = VLM(vlm.config)
        if vlm.head is not None:
            Untied().apply(plain)
    want, have = ({n: tuple(x.shape) for n, x in d.items()} for d in (plain.state_dict(), ours))
    if odd := sorted(n for n in want.keys() | have.keys() if want.get(n) != have.get(n)):
        what = f"'{odd[0]}' {have.get(odd[0], 'is missing')}, and {len(odd) - 1} more that differ from the config"
        raise BuildError(what, "a plain VLM, or one with LoRA", "take these edits out, or save it by save_vla")
    return ours


def _theirs(vlm: VLM, ours: dict[str, Tensor]) -> dict[str, Tensor]:
    """Renamed and cut, by the table of the importer read backwards."""
    a, out = vlm.config.tower, {}
    qkv = [a.heads * a.head_size, a.groups * a.head_size, a.groups * a.head_size]
    v = vlm.config.vision
    for name, x in ours.items():
        what, _, kind = name.rpartition(".")
        at, table = "", ONCE
        for theirs, (place, inner) in NAMES.layers.items():
            if found := re.fullmatch(rf"{re.escape(place)}\.(\d+)\.(.+)", what):
                at, what, table = f"{theirs}.{found[1]}.", found[2], inner
        names = [n for n, our in table.items() if our == what]
        if table is BLOCK and len(names) > 1 and what != "gate_up":
            names = names[-1:] if isinstance(v, WindowViTConfig) else names[:1]
        if what == NAMES.flat and v is not None:
            x = x.unflatten(1, (3, v.frames, v.patch, v.patch))
        parts = x.split(qkv) if table is LAYER and len(names) == 3 else x.chunk(len(names))
        for n, part in zip(names, parts, strict=True):
            top = "" if f"{at}{n}".startswith(("visual.", "lm_head")) else "model."
            out[f"{top}{at}{n}.{kind}"] = part.detach().cpu().contiguous().clone()
    return out


def _config(vlm: VLM) -> dict[str, Any]:
    a, v = vlm.config.tower, vlm.config.vision
    kind, made = KINDS[type(v)]
    rope: dict[str, Any] = {"rope_type": "default", "rope_theta": a.theta}
    text = {
        "vocab_size": vlm.config.vocabulary, "hidden_size": a.width, "intermediate_size": a.ffn,
        "num_hidden_layers": a.layers, "num_attention_heads": a.heads, "num_key_value_heads": a.groups,
        "head_dim": a.head_size, "hidden_act": "silu", "rms_norm_eps": a.eps, "use_sliding_window": False,
        "rope_parameters": rope if v is None else {**rope, "mrope_section": list(a.sections)},
    }  # fmt: skip
    marks: dict[str, int] = {}
    if (words := vlm.words) is not None:
        ids = {field: words.tokenizer.token_to_id(word) for field, word in TOKENS.items()}
        marks = {field: i for field, i in ids.items() if i is not None}
        text |= {"eos_token_id": words.end, "pad_token_id": words.pad, "bos_token_id": None}
    top = {"model_type": kind, "architectures": [made], "tie_word_embeddings": vlm.head is None}
    if v is None:
        return {**text, **top}
    eyes: dict[str, Any] = {
        "depth": v.layers, "num_heads": v.heads, "patch_size": v.patch, "temporal_patch_size": v.frames,
        "spatial_merge_size": v.merge,
    }  # fmt: skip
    if isinstance(v, WindowViTConfig):
        eyes |= {"hidden_size": v.width, "intermediate_size": v.ffn, "out_hidden_size": v.out, "hidden_act": "silu"}
        eyes |= {"window_size": v.window * v.patch * v.merge, "fullatt_block_indexes": list(v.whole)}
    elif isinstance(v, ViTConfig):
        eyes |= {"embed_dim": v.width, "mlp_ratio": v.ratio, "hidden_size": v.out, "hidden_act": "quick_gelu"}
    return {**top, **marks, "text_config": text, "vision_config": eyes}


def _write(tensors: dict[str, Tensor], folder: Path) -> None:
    shards: list[dict[str, Tensor]] = [{}]
    size = 0
    for name, x in tensors.items():
        if shards[-1] and size + x.nbytes > SHARD:
            shards.append({})
            size = 0
        shards[-1][name] = x
        size += x.nbytes
    if len(shards) == 1:
        save_file(shards[0], folder / WHOLE, {"format": "pt"})
        return
    places = {}
    for i, shard in enumerate(shards, 1):
        file = f"model-{i:05d}-of-{len(shards):05d}.safetensors"
        save_file(shard, folder / file, {"format": "pt"})
        places |= dict.fromkeys(shard, file)
    total = {"total_size": sum(x.nbytes for x in tensors.values())}
    (folder / INDEX).write_text(json.dumps({"metadata": total, "weight_map": places}, indent=1) + "\n")
