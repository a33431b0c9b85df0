"""The record of ACT's parity: the same random weights in LeRobot's class and in ours, the same inputs, both chunks.

    python -m mindhand.recipes.act_parity runs/lerobot [FOLDER]

from a clean checkout, or with a FOLDER for drafts. LeRobot's policy is made, saved and run in its own environment
(`lerobot_env.py`, made in the first folder where it is not there), and loaded here from what it saved
(`act_lerobot.py`). Compared is the whole way: raw pictures of two cameras and the state in, actions in robot units out.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

import mindhand.model.act_hand
import mindhand.model.resnet
import mindhand.model.standard_codec
from mindhand.core.errors import BadData
from mindhand.core.keys import Key
from mindhand.core.nouns import Observation
from mindhand.core.record import Record, write_record
from mindhand.core.seams import Code
from mindhand.core.spec import Camera, Part, Spec
from mindhand.data.files import write_json
from mindhand.model.vla import VLA

from . import act, act_lerobot, lerobot_env, lerobot_side

SOURCES = (
    Path(__file__), act, act_lerobot, lerobot_env, lerobot_side,
    mindhand.model.act_hand, mindhand.model.resnet, mindhand.model.standard_codec,
)  # fmt: skip
MOST = 1e-5  # apart, in robot units whose standard deviations are 0.2 to 1
LEARNED = 1e-4  # relative, of the two terms of the loss
SMALL = {
    "chunk_size": 8, "n_action_steps": 8, "dim_model": 64, "n_heads": 4, "dim_feedforward": 128, "n_encoder_layers": 2,
    "n_decoder_layers": 2, "n_vae_encoder_layers": 2, "latent_dim": 8,
}  # fmt: skip
CASES: dict[str, dict[str, Any]] = {  # what `lerobot_side.act` is asked
    "small": {"policy": SMALL, "cameras": {"front": [64, 96], "wrist": [96, 64]}, "items": 24},
    "default": {"policy": {}, "cameras": {"front": [240, 320], "wrist": [240, 320]}, "items": 2},
}


def spec_of(plan: Mapping[str, Any]) -> Spec:
    """A robot of so many joints, with these cameras."""

    def joints(count: int) -> tuple[Part, ...]:
        return (Part("joint", "joint", tuple(f"j{i}" for i in range(count)), "rad"),)

    cameras = tuple(Camera(role, h, w, (h, w)) for role, (h, w) in plan["cameras"].items())
    return Spec("parity", joints(plan["action"]), joints(plan["state"]), cameras, 50.0)


def compare(vla: VLA, theirs: Mapping[str, np.ndarray], name: str) -> list[dict[str, Any]]:
    """A row an item: the largest difference of an action between their chunk and ours, and how far the loss's two terms
    are apart, relative to theirs. theirs: what `lerobot_side.act` made."""
    rows = []
    for i in range(len(theirs["state"])):
        key = Key("act-parity-1", name, i)
        images = {c.role: theirs[c.role][i][None, None] for c in vla.spec.cameras}
        obs = Observation(images, theirs["state"][i][None, None], {"instruction": ("go",)}, np.zeros((1, 1)), (key,))
        state = vla.start(obs.keys)
        apart = np.abs(vla.act(obs, state)[0].actions[0] - theirs["chunk"][i])
        valid = torch.from_numpy(~theirs["pad"][i])[None]
        whole = vla.codec.encode(torch.from_numpy(theirs["actions"][i])[None], torch.ones_like(valid), None)
        with torch.no_grad():
            ctx, _ = vla.think(obs, state)
            hand = vla.expert
            error, kl = hand.terms(ctx, Code(whole.values, valid), torch.zeros(1, hand.config.latent))
        # LeRobot averages over padded steps too, as zeros.
        told = {"l1": float(error * valid.float().mean()), "kl": float(kl)}
        learned = {f"{n}_apart": abs(x - float(theirs[n][i])) / abs(float(theirs[n][i])) for n, x in told.items()}
        rows.append({"key": key, "size": name, "max_abs_action_difference": float(apart.max()), **learned})
    return rows


def rows_of(side: lerobot_env.Side, cases: Mapping[str, Mapping[str, Any]] = CASES) -> list[dict[str, Any]]:
    """Rows of `compare` of all cases. BadData for a loss that is not LeRobot's."""
    rows = []
    for seed, (name, case) in enumerate(cases.items()):
        folder, plan = side.folder / f"act-{name}", {**case, "state": 7, "action": 6, "seed": seed}
        write_json(folder / "plan.json", plan)
        side.run("act", folder)
        vla = act_lerobot.load_act(folder / "checkpoint", spec_of(plan))
        with np.load(folder / "items.npz") as theirs:
            rows += [{**row, "lerobot": side.versions} for row in compare(vla, dict(theirs), name)]
    if wrong := [r for r in rows if max(r["l1_apart"], r["kl_apart"]) > LEARNED]:
        raise BadData(f"the loss of {wrong[0]}", f"LeRobot's to {LEARNED:g}", "find which term it is")
    return rows


def publish(lerobot: Path, folder: Path | None = None) -> Record:
    """parity/act/max_abs_action_difference, a mean over items; every row has its own. Expected: about 1e-6."""
    torch.set_num_threads(1)
    rows = rows_of(lerobot_env.lerobot_side(lerobot))
    worst = max(r["max_abs_action_difference"] for r in rows)
    if worst > MOST:
        raise BadData(f"an action {worst:g} apart", f"{MOST:g} at most", "compare layer by layer")
    return write_record(
        "parity/act/max_abs_action_difference",
        rows=rows,
        field="max_abs_action_difference",
        kind="mean",
        unit="rad",
        chance=None,
        sources=SOURCES,
        command="python -m mindhand.recipes.act_parity runs/lerobot",
        folder=folder,
    )


if __name__ == "__main__":
    sys.exit(lerobot_env.proof(publish, sys.argv[1:]))
