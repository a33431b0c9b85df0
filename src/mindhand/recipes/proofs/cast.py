"""CAST where demonstrations' scenes tell by themselves what is asked for, tested where the other thing is asked for.

Counterfactual chunks come from an atomic policy: the bench's own base, trained as every arm is, on the same frames told
their motions. Controls: the demonstrations in five wordings, and counterfactual chunks of the simulator's expert, which
no method without a simulator has (the bound). What decides is success where the other ball is asked for; success as in
the demonstrations is told beside it ("biased"). Measured besides, at states of the expert's way: how far apart a
policy's chunks end when the instruction is exchanged, and a lower bound of how much they tell of it, I(a; l | o)."""

from __future__ import annotations

import re
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from mindhand.core.keys import Keys
from mindhand.data.cache import FrameCache
from mindhand.data.relabelled import Told
from mindhand.evaluate.protocol import PLACING_BIASED, keys
from mindhand.methods.relabel.cast import Config, commanded, relabel
from mindhand.model.vla import VLA
from mindhand.worlds.biased import BIASED, OTHER, sample_task
from mindhand.worlds.placing import INSTRUCTIONS
from mindhand.worlds.things import RELATIONS

from ..places import place_of
from . import Proof
from .bench import BASELINE, Arm, Bench, Measured, Shown, Stand, learn, prepare

BENCH = Bench("flow", PLACING_BIASED.only(episodes=60), demonstrations=100, shown=(BIASED,))
CONFIG = Config(steps=BENCH.horizon)
SCENES, EVERY, POINTS, SAMPLES = 24, 8, 4, 8  # of the measure: scenes, control steps between points, points, chunks
BLUR = 1e-3  # m: chunks that end nearer to each other than this tell nothing


# ---- what arms learn from ----------------------------------------------------------------------------------


def told(stand: Stand, training: int) -> Shown:
    """The demonstrations, each frame told its motion."""
    reader, pictures = prepare(stand, None)
    return commanded(reader, CONFIG), pictures, ()


ATOMIC = Arm("atomic", data=told)  # no side of the proof


def counterfactual(stand: Stand, training: int, *, atomic: bool) -> Shown:
    """The demonstrations and their counterfactuals, one to one: by the atomic policy of this training, or by the
    expert, the same for all trainings."""
    reader, _ = prepare(stand, None)
    policy = learn(stand, ATOMIC, training) if atomic else None
    folder, place = stand.root / "cast" / (str(training) if atomic else "expert"), place_of(stand.bench.demonstrated)
    with closing(place.world(1)) as world:
        made = relabel(reader, folder, world, CONFIG, policy=policy, noise=place.noise)
    pictures = FrameCache.build(folder.with_name(f"{folder.name}-frames"), made.reader, every=stand.bench.every)
    return made.reader, pictures, made.sets(pictures.frames)


_CANONICAL = re.compile(rf"put the (.+?) ({'|'.join(RELATIONS)}) the (.+)")


def worded(text: str, phrasing: int) -> str:
    """An instruction of placing in another of its phrasings; any other text as it is."""
    found = _CANONICAL.fullmatch(text)
    return INSTRUCTIONS[phrasing].format(*found.groups()) if found else text


def paraphrased(stand: Stand, training: int) -> Shown:
    """The demonstrations, each frame told in one of the phrasings, all equally often."""
    reader, pictures = prepare(stand, None)
    phrasing = Keys.seeded(len(reader), "paraphrased").integers(len(INSTRUCTIONS)).tolist()
    return Told(reader, [worded(reader.instruction(i), p) for i, p in enumerate(phrasing)]), pictures, ()


# ---- whether a policy listens ------------------------------------------------------------------------------


def information(ends: np.ndarray) -> float:
    """Where chunks end (2,S,3) m under two instructions: bits of the instruction that they tell, at most 1. A lower
    bound (Barber and Agakov, 2003): how well normal distributions with a covariance in common, fitted to all others,
    say of each chunk under which it was drawn; where both are alike it is about 0, or less by what few samples mislead.
    """
    many = ends.shape[1]
    off = (ends - ends.mean(1, keepdims=True)).reshape(-1, 3)
    within = np.linalg.inv(off.T @ off / max(len(off) - 2, 1) + BLUR**2 * np.eye(3))
    told = []
    for l in range(2):
        for s in range(many):
            means = ends.mean(1)
            means[l] = np.delete(ends[l], s, 0).mean(0)
            away = ends[l, s] - means
            score = -0.5 * np.einsum("li,ij,lj->l", away, within, away)
            told.append(score[l] - np.logaddexp(*score))
    return 1 + float(np.mean(told)) / np.log(2)


def ends(vla: VLA, obs: Any, said: tuple[str, str]) -> np.ndarray:
    """Where the tool point is told to be at the end of S chunks under each of two instructions: (2,S,3) m."""
    at, out = vla.spec.part("tcp"), []
    for text in said:
        made, _ = vla.propose(obs.with_text("instruction", (text,)), vla.start(obs.keys), SAMPLES)
        out.append(made.actions[0, :, -1, at])
    return np.stack(out).astype(np.float64)


def listening(vla: VLA, stand: Stand, folder: Path) -> list[dict[str, Any]]:
    """At states on the expert's way, a row each: "swap" (m), how far apart chunks of the same noise end under the two
    instructions, and "bits"; the same of the baseline of this training, "..._without"."""
    both = {"": vla, "_without": learn(stand, Arm(BASELINE), int(folder.name))}
    starts = [key for key in keys(stand.bench.protocol) if key.task == BIASED][:SCENES]
    out = []
    with closing(place_of(stand.bench.demonstrated).world(1)) as world:
        for key in starts:
            said = sample_task(key).instruction, sample_task(replace(key, task=OTHER)).instruction
            world.reset([key], [0])
            for point in range(POINTS):
                row: dict[str, Any] = {"key": f"{key}/{point * EVERY}"}
                for name, policy in both.items():
                    found = ends(policy, world.observe([0]), said)
                    row[f"swap{name}"] = float(np.linalg.norm(found[0] - found[1], axis=1).mean())
                    row[f"bits{name}"] = information(found)
                out.append(row)
                for _ in range(EVERY):
                    world.step(world.expert([0]), [0])
    return out


UNITS = {"swap": "m", "swap_without": "m", "bits": "bit", "bits_without": "bit"}
LISTENING = Measured(listening, {name: ("mean", name, unit) for name, unit in UNITS.items()})
ARMS = (
    Arm("cast", data=partial(counterfactual, atomic=True), measure=LISTENING),
    Arm("paraphrases", data=paraphrased, measure=LISTENING),
    Arm("expert", data=partial(counterfactual, atomic=False), measure=LISTENING),
)
PROOF = Proof("cast", BENCH, ARMS, apart={"": (OTHER,), "biased": (BIASED,)})
