"""What a tuning begins with: a dataset that the doctor lets pass, its episodes parted, and a policy for its robot.

The policy is a checkpoint of ours, whose robot must be the dataset's; or it is made round a VLM, ours or a folder of
transformers, with a new hand in a tower of its own (as pi0, 2410.24164): half as wide as the mind, flow matching, which
attends to all that the mind sees and reads.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from rich.console import Console
from torch import nn

from mindhand.core.checkpoint import load_checkpoint
from mindhand.core.errors import BadCheckpoint, BadData, SpecMismatch
from mindhand.core.parts import apply_edits
from mindhand.core.seams import Edit
from mindhand.core.spec import Spec
from mindhand.data.doctor import Report, doctor
from mindhand.data.files import identity
from mindhand.data.mixture import held_out, lots
from mindhand.data.opening import open_dataset
from mindhand.data.reader import Reader
from mindhand.data.robot import RobotFrames
from mindhand.model.codec import ChunkCodec
from mindhand.model.described import described_folder, described_vla
from mindhand.model.ffn_edits import tower_of
from mindhand.model.imports import import_folder
from mindhand.model.licence import Licence, licence_of
from mindhand.model.low_rank import LoRA
from mindhand.model.reasoner import ReasonerConfig, WordsReasoner, unread
from mindhand.model.standard_codec import StandardCodec
from mindhand.model.store import load_vla
from mindhand.model.tower_hand import TOWER, AddTower, TowerHand, TowerHandConfig
from mindhand.model.vla import VLA
from mindhand.model.vlm import VLM

Kind = Literal["policy", "mind", "import"]
FAR = {ChunkCodec: 1.5, StandardCodec: 6.0}  # beyond it a code is of other data than the statistics
FEW = 3  # episodes that are held out at the least, for an interval
MOST = 0.2  # of the numbers of one dimension that may be so


@dataclass(frozen=True)
class TunePlan:
    """Sizes of a tuning; what is in its run folder was made by one plan."""

    full: bool = False  # all weights learn; else the hand, and adapters of the mind
    steps: int = 2000
    rows: int = 16  # frames a step
    horizon: int = 0  # commands a chunk of a new hand; 0: a second's, 8 to 50
    held: float = 0.1  # share of the episodes that are held out; of few episodes at least three, or half
    rank: int = 16  # of the adapters
    lr: float = 3e-4
    seed: int = 0


@dataclass(frozen=True)
class Start:
    """What is tuned. kind: a policy of ours, a VLM of ours, or a VLM in a folder of transformers; identity: changes
    with its weights."""

    folder: Path
    kind: Kind
    licence: Licence
    identity: str

    @property
    def name(self) -> str:
        """What a person calls it."""
        return self.folder.resolve().parent.name if self.folder.name == "checkpoint" else self.folder.name

    def about(self, robot: str) -> str:
        """What is new of it, in a line."""
        if self.kind == "policy":
            return f"{self.folder}: a policy of robot '{robot}'; its hand and its statistics are kept"
        return f"{self.folder}: a VLM; the hand is new, and knows nothing yet of robot '{robot}'"


def examined(data: Path, sheet: Path, console: Console) -> tuple[Reader, Report]:
    """The dataset, once the doctor has printed its report and drawn the contact sheet. BadData for what it calls an
    error."""
    report = doctor(data, sheet=sheet)
    report.print(console)
    if report.errors:
        first = report.errors[0]
        raise BadData(
            f"{data}: {len(report.errors)} errors, the first: {first.check}: {first.what}",
            "a dataset of which the doctor calls nothing an error",
            f"repair or leave out what it names, then look again: mindhand data doctor {data}",
        )
    return open_dataset(data), report


def parted(reader: Reader, plan: TunePlan) -> np.ndarray:
    """bool (episodes,): which are held out, each by its own name and the seed, whole, so that what was held out stays
    so when more is recorded; of few episodes the `FEW` that come first by the same hash, or half. BadData for one."""
    names = [e.key if e.key is not None else f"{reader.path.name}/{e.number}" for e in reader.episodes]
    draws = np.sort(lots(names, plan.seed))
    few = min(FEW, len(names) // 2)
    return held_out(names, max(plan.held, float(np.nextafter(draws[few - 1], 1.0)) if few else 0.0), plan.seed)


def frames_of(reader: Reader, held: np.ndarray, side: bool) -> np.ndarray:
    """Global frames int64 (n,) of the episodes that are held out, or of the others."""
    return np.flatnonzero(held[reader.episode_index] == side)


def start_of(folder: Path, spec: Spec, data: Path) -> Start:
    """What lies in `folder`, for a dataset of this spec. SpecMismatch, naming both and all that differs, for a policy
    of another robot; BadCheckpoint for what is neither a checkpoint nor a folder of transformers."""
    folder = folder / "checkpoint" if (folder / "checkpoint" / "manifest.json").exists() else folder
    if (folder / "manifest.json").exists():
        found = load_checkpoint(folder, None)
        if "expert" not in found.config["slots"]:
            return Start(folder, "mind", licence_of(folder), found.fingerprint)
        try:
            found.spec.require(spec, f"checkpoint {folder}", f"dataset {data}")
        except SpecMismatch as error:
            raise SpecMismatch(
                error.what,
                "a policy of the dataset's robot: the same numbers in the same units, cameras and rate",
                "correct the side that is wrong; or begin with the VLM that it was made of, which gets a new hand",
            ) from error
        return Start(folder, "policy", licence_of(folder), found.fingerprint)
    if not (folder / "config.json").exists():
        raise BadCheckpoint(
            f"{folder} is neither a checkpoint nor a folder of transformers",
            "a folder with manifest.json (of mindhand) or with config.json and its weights (a VLM)",
            "check the path; nothing is downloaded",
        )
    files = sorted(p for p in folder.iterdir() if p.suffix in (".json", ".safetensors"))
    seen = hashlib.sha256(b"".join(p.name.encode() + identity(p) for p in files)).hexdigest()[:12]
    return Start(folder, "import", licence_of(folder), seen)


def build(start: Start, reader: Reader, plan: TunePlan, *, meta: bool = False) -> VLA:
    """The policy to be tuned, in float32 on the CPU; on device meta without weights. A new hand has no statistics yet.
    BadData for a policy that thinks before it acts where the dataset has no thoughts to learn from."""
    with torch.random.fork_rng(), torch.device("meta" if meta else "cpu"):
        torch.manual_seed(plan.seed)
        if start.kind == "policy":
            vla = described_vla(load_checkpoint(start.folder, None)) if meta else load_vla(start.folder)
            if vla.reasoner is not None and not reader.has_reasoning:
                raise BadData(
                    f"{reader.path} has no thoughts, and the policy {start.folder} thinks before it acts",
                    "demonstrations with a text a sub-step, or a policy that does not think",
                    "write thoughts beside the frames; or begin with a VLM: its new hand acts without",
                )
        else:
            mind, done = _mind(start, meta)
            vla = _with_hand(mind, reader, plan)
            vla.edits[:0] = done
        if not plan.full and not any(isinstance(e, LoRA) for e in vla.edits):
            lora = LoRA(plan.rank, 2.0 * plan.rank, _plain(vla), seed=plan.seed)
            apply_edits(vla, [lora])
            vla.edits.append(lora)
    return vla


def _mind(start: Start, meta: bool) -> tuple[VLM, list[Edit]]:
    """The VLM and the edits that are in it."""
    if start.kind == "mind":
        made = described_vla(load_checkpoint(start.folder, None)) if meta else load_vla(start.folder)
        return made.backbone, list(made.edits)
    found = described_folder(start.folder) if meta else import_folder(start.folder)
    if found.hand is not None:
        raise BadCheckpoint(
            f"{start.folder} is a policy of another toolkit, with a hand of its own",
            "a VLM, or a checkpoint of ours",
            "make it one: import_folder(folder).vla(spec), then model.store.save_vla; and tune that",
        )
    if (words := found.words()) is None:
        raise BadCheckpoint(f"{start.folder}: no tokenizer", "tokenizer.json beside the weights", "download all of it")
    if not meta:
        return found.vlm(words), list(found.edits)
    made = VLM(found.config, words)
    apply_edits(made, found.edits)
    return made, list(found.edits)


def _with_hand(mind: VLM, reader: Reader, plan: TunePlan) -> VLA:
    """A policy round a VLM, which sees through all cameras, and thinks where the demonstrations do."""
    spec = reader.spec
    horizon = plan.horizon or int(np.clip(round(spec.rate), 8, 50))
    width = max(16, mind.width // 4 * 2)
    texts = {reader.reasoning(i) for i in range(len(reader))} if reader.has_reasoning else set()
    limit = max((len(mind.words.encode(t)) for t in texts), default=0) + 8
    return VLA(
        spec=spec,
        backbone=mind,
        expert=TowerHand(TowerHandConfig(spec.action_size, horizon, spec.state_size, width)),
        codec=ChunkCodec(spec),
        reasoner=WordsReasoner(ReasonerConfig(limit), unread) if texts - {""} else None,
        edits=[AddTower(TOWER, width, 4 * width)],
        see=spec.roles,
    )


def _plain(vla: VLA) -> tuple[str, ...]:
    """The layers that adapters go beside: those that are plain in every block of the mind."""
    blocks = [dict(b.named_modules()) for b in tower_of(vla, "vlm").layers]
    return tuple(p for p in LoRA().where if all(type(b.get(p)) is nn.Linear for b in blocks))


def learns(vla: VLA, plan: TunePlan) -> tuple[str, ...]:
    """Patterns of the names of what is trained."""
    if plan.full:
        return ("*",)
    names = [n for n, _ in vla.named_parameters()]
    mine = ("*.low_*", "expert.*", "streams.*", f"backbone.towers.{TOWER}.*")
    return tuple(p for p in mine if "low" in p or any(n.startswith(p[:-1]) for n in names))


def require_statistics(vla: VLA, robot: RobotFrames, index: np.ndarray, what: Sequence[str]) -> None:
    """BadData where many actions of frames (n,) lie far outside the statistics that a policy came with: they were
    measured on other data (degrees for radians, another robot), and what is learned would be a plausible, wrong scale.
    what: the names of the checkpoint and of the dataset."""
    far = FAR.get(type(vla.codec))
    if far is None:
        return
    some = index[:: max(1, len(index) // 2000)]
    actions, valid = robot.chunks(some)
    state = torch.from_numpy(robot.reader.state[some]).unsqueeze(1)
    code = vla.codec.encode(torch.from_numpy(actions), torch.from_numpy(valid), state)
    out = (code.values[code.valid].abs() > far).float().mean(0).tolist()
    names = vla.spec.action_names()
    if odd := [f"{n} in {share:.0%} of the frames" for n, share in zip(names, out) if share > MOST]:
        raise BadData(
            f"the actions of {what[1]} lie outside the statistics of {what[0]}: {', '.join(odd)}",
            "commands of the same robot in the same units as those that it learned from",
            "check units and offsets of these dimensions; or begin with its VLM, whose new hand is measured anew",
        )
