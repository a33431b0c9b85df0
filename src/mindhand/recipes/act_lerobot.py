"""ACT as LeRobot saves it (config.json, model.safetensors, policy_pre- and postprocessor) becomes a policy of ours.

Whatever is not exactly what is expected is refused by LeRobot's own name for it. Units and frames, which LeRobot does
not write down, are the spec's that is given.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mindhand.core.checkpoint import load_into
from mindhand.core.errors import BadCheckpoint
from mindhand.core.spec import Spec
from mindhand.data.files import read_json
from mindhand.data.lerobot_format import ACTION, IMAGES, STATE
from mindhand.model.act_hand import ActConfig
from mindhand.model.resnet import ResNetEyesConfig
from mindhand.model.vla import VLA
from mindhand.model.words import Words

from .act import act_parts

DEPTHS = {"resnet18": (2, 2, 2, 2), "resnet34": (3, 4, 6, 3)}
FIXED = {  # what the hand is built as, by ACTConfig's names
    "type": "act", "n_obs_steps": 1, "use_vae": True, "pre_norm": False, "feedforward_activation": "relu",
    "replace_final_stride_with_dilation": False,
}  # fmt: skip
SIZES = {  # ours: theirs
    "horizon": "chunk_size", "width": "dim_model", "heads": "n_heads", "inner": "dim_feedforward",
    "posterior": "n_vae_encoder_layers", "encoder": "n_encoder_layers", "decoder": "n_decoder_layers",
    "latent": "latent_dim", "dropout": "dropout", "divergence": "kl_weight",
}  # fmt: skip
ONCE = {  # ours, of the hand: theirs
    "summary": "vae_encoder_cls_embed.weight", "places": "encoder_1d_feature_pos_embed.weight",
    "queries": "decoder_pos_embed.weight", "posterior_state": "vae_encoder_robot_state_input_proj",
    "posterior_action": "vae_encoder_action_input_proj", "posterior_leave": "vae_encoder_latent_output_proj",
    "enter_latent": "encoder_latent_input_proj", "enter_state": "encoder_robot_state_input_proj",
    "norm": "decoder.norm", "leave": "action_head",
}  # fmt: skip
STACKS = {"posterior": "vae_encoder", "encoder": "encoder", "decoder": "decoder"}
BLOCK = {
    "attention": "self_attn", "norm": "norm1", "ffn.0": "linear1", "ffn.3": "linear2", "ffn_norm": "norm2",
    "own.attention": "self_attn", "own.norm": "norm1", "seen.attention": "multihead_attn", "seen.norm": "norm2",
    "seen.ffn.0": "linear1", "seen.ffn.3": "linear2", "seen.ffn_norm": "norm3",
}  # fmt: skip
PLACES = "model.vae_encoder_pos_enc"  # fixed, and in their file


def hand_name(ours: str) -> str:
    """LeRobot's name of a tensor of the hand."""
    if found := re.fullmatch(r"(posterior|encoder|decoder)\.(\d+)\.(.+)", ours):
        at = next(k for k in sorted(BLOCK, key=len, reverse=True) if found[3].startswith(f"{k}."))
        return f"model.{STACKS[found[1]]}.layers.{found[2]}.{BLOCK[at]}{found[3].removeprefix(at)}"
    head, dot, rest = ours.partition(".")
    return f"model.{ONCE[head]}{dot}{rest}"


def eyes_name(ours: str) -> str:
    """LeRobot's name of a tensor of the eyes."""
    if ours.startswith("resnet."):
        return f"model.backbone.{ours.removeprefix('resnet.')}"
    return f"model.encoder_img_feat_input_proj.{ours.removeprefix('project.')}"


def load_act(folder: Path, spec: Spec, cameras: Mapping[str, str] | None = None) -> VLA:
    """The policy in a folder that LeRobot saved. cameras {role: its feature}: by default "front" is
    "observation.images.front". BadCheckpoint for what is unknown, missing, of another size or built otherwise."""
    config = read_json(folder / "config.json", "LeRobot's policy")
    for name, wanted in FIXED.items():
        if config.get(name) != wanted:
            raise BadCheckpoint(f"{folder}: {name} is {config.get(name)!r}", f"{wanted!r}", "train it so, in LeRobot")
    if missing := sorted({*SIZES.values(), "vision_backbone", "input_features", "output_features"} - set(config)):
        raise BadCheckpoint(f"{folder}: config.json lacks {missing}", "an ACTConfig", "save it with LeRobot 0.4")
    if config["vision_backbone"] not in DEPTHS:
        raise BadCheckpoint(f"vision_backbone '{config['vision_backbone']}'", f"one of {[*DEPTHS]}", "train it so")
    roles = _roles(config, spec, cameras or {r: IMAGES + r for r in spec.roles})
    told = {
        **_statistics(folder, "pre", "normalizer_processor"),
        **_statistics(folder, "post", "unnormalizer_processor"),
    }
    if missing := sorted({f"{n}.{s}" for n in (STATE, ACTION, *roles) for s in ("mean", "std")} - set(told)):
        raise BadCheckpoint(f"{folder}: no statistics {missing}", "mean and std of all features", "save its processors")
    eps = 1e-8  # added by LeRobot where it divides

    def looks(stat: str, more: float = 0.0) -> tuple[tuple[float, ...], ...]:
        return tuple(tuple((told[f"{feature}.{stat}"].flatten() + more).tolist()) for feature in roles)

    sizes = {ours: config[theirs] for ours, theirs in SIZES.items()}
    hand = ActConfig(action=spec.action_size, state=spec.state_size, **sizes)
    depths = DEPTHS[config["vision_backbone"]]
    eyes = ResNetEyesConfig(tuple(roles.values()), hand.width, looks("mean"), looks("std", eps), depths)
    vla = VLA(spec=spec, **act_parts(spec, Words.train([], 128), hand, eyes))
    _fill(vla, _weights(folder))
    action = {n: told[f"{ACTION}.{n}"].tolist() for n in ("mean", "std")}
    state = {"mean": told[f"{STATE}.mean"].tolist(), "std": (told[f"{STATE}.std"] + eps).tolist()}
    vla.load_statistics({"action": {"codec": "standard-1", **action}, "state": state})
    return vla.eval()


def _roles(config: Mapping[str, Any], spec: Spec, cameras: Mapping[str, str]) -> dict[str, str]:
    """{feature: role} of the pictures, in LeRobot's order. BadCheckpoint for features that are not the spec's."""
    role_of = {feature: role for role, feature in cameras.items()}
    pictures = [n for n, f in config["input_features"].items() if f["type"] == "VISUAL"]
    wanted = {STATE: [spec.state_size], ACTION: [spec.action_size]}
    for n in pictures:
        if n in role_of:
            camera = spec.camera(role_of[n])
            wanted[n] = [3, camera.height, camera.width]
    have = {n: [*f["shape"]] for n, f in {**config["input_features"], **config["output_features"]}.items()}
    if odd := sorted(n for n in {*have, *wanted, *role_of} if have.get(n) != wanted.get(n)):
        sides = ", ".join(f"'{n}' {have.get(n)}, here {wanted.get(n)}" for n in odd)
        raise BadCheckpoint(f"features differ: {sides}", "those of the spec", "give its spec, and cameras= their roles")
    return {n: role_of[n] for n in pictures}


def _statistics(folder: Path, which: str, step: str) -> dict[str, Tensor]:
    """{"feature.mean": ...} of a processor. BadCheckpoint for one that does anything else to what it is given."""
    from safetensors.torch import load_file

    file = f"policy_{which}processor.json"
    steps = {s.get("registry_name"): s for s in read_json(folder / file, "LeRobot's processor")["steps"]}
    plain = {"rename_observations_processor", "to_batch_processor", "device_processor", step}
    if odd := sorted(str(n) for n in set(steps) - plain):
        raise BadCheckpoint(f"{file} has steps {odd}", f"some of {sorted(plain)}", "load it with LeRobot")
    if renamed := steps.get("rename_observations_processor", {}).get("config", {}).get("rename_map"):
        raise BadCheckpoint(f"{file} renames {renamed}", "no renaming", "give cameras= the names behind it")
    how = steps.get(step, {}).get("config", {}).get("norm_map", {})
    if {*how.values()} != {"MEAN_STD"} or "state_file" not in steps[step]:
        raise BadCheckpoint(
            f"{file} normalises by {how or 'nothing'}", "MEAN_STD of all, with its numbers", "train it so"
        )
    return load_file(folder / steps[step]["state_file"])


def _weights(folder: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(folder / "model.safetensors")
    except (OSError, SafetensorError) as error:
        raise BadCheckpoint(f"{folder}/model.safetensors: {error}", "LeRobot's weights", "copy them again") from error


def _fill(vla: VLA, theirs: dict[str, Tensor]) -> None:
    """Their tensors into our parts; what does not fit is named as they name it."""
    parts: list[tuple[nn.Module, dict[str, str]]] = []
    for part, name_of in ((vla.expert, hand_name), (vla.streams[0], eyes_name)):
        parts.append((part, {name: name_of(name) for name in part.state_dict()}))
    shapes = {names[n]: tuple(x.shape) for part, names in parts for n, x in part.state_dict().items()}
    shapes[PLACES] = (1, *vla.expert.steps.shape)
    lines = [f"- {n} {shapes[n]}: missing" for n in sorted(shapes.keys() - theirs.keys())]
    lines += [f"+ {n}: unknown" for n in sorted(theirs.keys() - shapes.keys())]
    both = sorted(shapes.keys() & theirs.keys())
    lines += [f"! {n}: {tuple(theirs[n].shape)}, not {shapes[n]}" for n in both if tuple(theirs[n].shape) != shapes[n]]
    if not lines and not torch.allclose(theirs[PLACES][0], vla.expert.steps, atol=1e-6):
        lines.append(f"! {PLACES}: other places than those of the paper")
    if lines:
        what = "\n    ".join([f"{len(lines)} tensors do not fit:", *lines[:20]])
        raise BadCheckpoint(what, "LeRobot's ACT of its own config.json", "take weights and config of one policy")
    for part, names in parts:
        load_into(part, {ours: theirs[name] for ours, name in names.items()})
