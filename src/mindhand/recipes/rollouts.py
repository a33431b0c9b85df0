"""Rows of a policy under a protocol: what every evaluation of a recipe is made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from mindhand.core.checkpoint import load_checkpoint
from mindhand.core.errors import Refusal
from mindhand.core.keys import Key
from mindhand.core.seams import Filter, Policy, World
from mindhand.evaluate.failures import film_failures
from mindhand.evaluate.ledger import open_ktest
from mindhand.evaluate.protocol import Protocol
from mindhand.evaluate.run import Job, film_of
from mindhand.evaluate.run import evaluate as run_protocol
from mindhand.evaluate.scores import scored
from mindhand.methods import label, shielded, told
from mindhand.model.store import load_vla
from mindhand.model.vla import VLA
from mindhand.worlds.controls import Chance, Rehearsed
from mindhand.worlds.perturb import AXES, LEVELS, Perturbation

from .places import DESK, Place, place_of, worlds

Rows = list[dict[str, Any]]
Wrap = Callable[[Policy], Policy]
Worlds = Callable[[int], World]  # a maker, given how many rows
RunRows = Callable[..., Rows]  # `rows_of`, with whatever is the same in all of an evaluation
CONTROLS = (Rehearsed.name, Chance.name)  # what can be evaluated without a checkpoint


@dataclass(frozen=True)
class Shield:
    """What corrects every command of a policy, in order. name: what its rows are told by; worlds: the protocol's, made
    to tell the filters what they must know."""

    name: str
    filters: Callable[[], Sequence[Filter]]
    worlds: Callable[[Worlds], Worlds]


def shield_of(names: Sequence[str], place: Place) -> Shield:
    """Of methods of the catalogue. BuildError for one that cannot correct this robot's commands."""
    shielded(place.spec, names)
    return Shield(label(names), partial(shielded, place.spec, tuple(names)), partial(_telling, tuple(names)))


def _telling(names: Sequence[str], made: Worlds) -> Worlds:
    return partial(_told, names, made)


def _told(names: Sequence[str], made: Worlds, rows: int) -> World:
    return told(made(rows), names)


def load_policy(checkpoint: Path, place: Place = DESK) -> VLA:
    """A checkpoint as a policy of a world, the desk unless told; refuses one of another robot."""
    return load_vla(checkpoint, place.spec, parse=place.parse)


def _within(policy: Callable[[], Policy], wraps: Mapping[str, Wrap]) -> Policy:
    out = policy()
    for wrap in wraps.values():
        out = wrap(out)
    return out


def is_control(checkpoint: Path) -> bool:
    """Whether no checkpoint is meant, but the expert or chance: by name, where no training lies under that name."""
    return str(checkpoint) in CONTROLS and not any(checkpoint.glob("**/manifest.json"))


def control(name: str, protocol: Protocol) -> Policy:
    """The expert, or chance, as a policy of the protocol."""
    if name == Rehearsed.name:
        return Rehearsed(worlds(protocol)(1), protocol.replan)
    place = place_of(protocol.tasks)
    return Chance(place.spec, protocol.replan, place.low, place.high)


def robot_of(checkpoint: Path) -> str | None:
    """The robot that a checkpoint's spec names; of a control none, which means the usual one of a task."""
    return None if is_control(checkpoint) else load_checkpoint(checkpoint, None).spec.robot


def rows_of(
    checkpoint: Path,
    protocol: Protocol,
    folder: Path,
    *,
    workers: int = 2,
    films: int = 3,
    console: Console | None = None,
    some: Sequence[Key] | None = None,
    wraps: Mapping[str, Wrap] = {},
    shield: Shield | None = None,
) -> Rows:
    """Scored rows of a checkpoint under a protocol, its arm included; what `folder` already holds is not run again. A
    look at K-test is entered in the ledger first. films: of each task so many first episodes, and first failures, are
    filmed. checkpoint: a folder, or one of `CONTROLS`. wraps: what goes round
    the policy, by name, the first innermost; shield: what stands behind it; its rows are another policy's."""
    robot = robot_of(checkpoint)
    place = place_of(protocol.tasks, robot)
    policy: Callable[[], Policy] = partial(load_policy, checkpoint, place)
    if is_control(checkpoint):
        name, policy = str(checkpoint), partial(control, str(checkpoint), protocol)
    else:
        name = load_checkpoint(checkpoint, place.spec).fingerprint
    if wraps:
        name, policy = " in ".join([name, *wraps]), partial(_within, policy, wraps)
    made, filters = worlds(protocol, robot), None
    if shield is not None:
        name, made, filters = f"{name} behind {shield.name}", shield.worlds(made), shield.filters
    look = open_ktest(protocol, name, folder)
    if look is not None and console is not None:
        console.print(f"{look.text} (entered in the ledger)")
    film = film_of(protocol, "front", films) if films else None
    rows = run_protocol(
        protocol,
        policy,
        made,
        folder,
        name=name,
        workers=workers,
        filters=filters,
        film=film,
        console=console,
        some=some,
    )
    if film is not None:
        rows = film_failures(Job(protocol, policy, made, filters, film, folder), rows, films)
    return scored(rows, protocol.arm)


def perturbations(asked: Sequence[str], known: Sequence[str] = AXES) -> list[str]:
    """What is asked for, spelled out: "camera" is camera1 to camera5, "all" each of the `known` axes at every level.
    Refusal of "all" where there are none."""
    if "all" in asked and not known:
        raise Refusal("--perturb all, where nothing can be perturbed", "a world that can", "leave it out")
    out: list[str] = []
    for word in asked:
        axes = known if word == "all" else (word,) if word in AXES else ()
        out += [f"{axis}{level}" for axis in axes for level in LEVELS[1:]] or [str(Perturbation.parse(word))]
    return list(dict.fromkeys(out))
