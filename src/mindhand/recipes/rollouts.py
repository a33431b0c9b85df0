"""Rows of a checkpoint on the desk: what every evaluation of a recipe is made of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from mindhand.core.checkpoint import load_checkpoint
from mindhand.core.errors import BadData
from mindhand.core.keys import Key
from mindhand.core.seams import World
from mindhand.evaluate.arms import ARMS, ChangedWorlds, perturbation_of
from mindhand.evaluate.ledger import open_ktest
from mindhand.evaluate.protocol import Protocol
from mindhand.evaluate.run import evaluate as run_protocol
from mindhand.evaluate.run import film_of
from mindhand.evaluate.scores import scored
from mindhand.model.store import load_vla
from mindhand.model.vla import VLA
from mindhand.worlds.desk.world import SPEC, DeskWorld
from mindhand.worlds.perturb import AXES, LEVELS, Perturbation
from mindhand.worlds.placing import read_placing
from mindhand.worlds.scene import read_reasoning

Rows = list[dict[str, Any]]


def read_thought(text: str) -> dict[str, Any] | None:
    """The fields of a thought of any family of the desk, None where it has no exact form."""
    return read_reasoning(text) or read_placing(text)


def load_policy(checkpoint: Path) -> VLA:
    """A checkpoint as a policy of the desk; refuses one of another robot."""
    return load_vla(checkpoint, SPEC, parse=read_thought)


def rows_of(
    checkpoint: Path,
    protocol: Protocol,
    folder: Path,
    *,
    workers: int = 2,
    films: int = 3,
    console: Console | None = None,
    some: Sequence[Key] | None = None,
) -> Rows:
    """Scored rows of a checkpoint under a protocol, its arm included; what `folder` already holds is not run again. A
    look at K-test is entered in the ledger first."""
    name = load_checkpoint(checkpoint, SPEC).fingerprint
    look = open_ktest(protocol, name, folder)
    if look is not None and console is not None:
        console.print(f"{look.text} (entered in the ledger)")
    rows = run_protocol(
        protocol,
        partial(load_policy, checkpoint),
        worlds(protocol.arm),
        folder,
        name=name,
        workers=workers,
        film=film_of(protocol, "front", films) if films else None,
        console=console,
        some=some,
    )
    return scored(rows, protocol.arm)


def worlds(arm: str) -> Callable[[int], World]:
    """A maker of desks for an arm of a protocol: "clean", a perturbation ("camera3+light2"), one of `ARMS`, or both."""
    told = [w for w in arm.split("+") if w in ARMS]
    perturb = perturbation_of(arm)
    if len(told) > 1:
        raise BadData(f"arm '{arm}'", f"at most one of {ARMS}", "evaluate one after the other")
    desk = partial(DeskWorld, perturb=perturb) if perturb else DeskWorld
    return ChangedWorlds(desk, told[0]) if told else desk


def perturbations(asked: Sequence[str]) -> list[str]:
    """What is asked for, spelled out: "camera" is camera1 to camera5, "all" every axis at every level."""
    out: list[str] = []
    for word in asked:
        axes = AXES if word == "all" else (word,) if word in AXES else ()
        out += [f"{axis}{level}" for axis in axes for level in LEVELS[1:]] or [str(Perturbation.parse(word))]
    return list(dict.fromkeys(out))
