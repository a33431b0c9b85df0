"""The worlds that recipes know, by the family of a task: what is recorded and evaluated in each, and how."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from mindhand.core.errors import BadData, Refusal
from mindhand.core.keys import Key
from mindhand.core.spec import Spec
from mindhand.data.lerobot_format import INFO
from mindhand.data.lerobot_read import LeRobotReader
from mindhand.data.lerobot_write import LeRobotWriter
from mindhand.data.record import (
    DEPTH,
    GAZE,
    Labels,
    Noise,
    Thought,
    depth,
    gaze,
    no_labels,
    own_words,
    record_with_workers,
)
from mindhand.evaluate.arms import ARMS, THOUGHTS, ChangedWorlds, perturbation_of
from mindhand.evaluate.protocol import Protocol
from mindhand.model.reasoner import unread
from mindhand.worlds import heights, hidden, metaworld_spec
from mindhand.worlds.declared import heights_hash, hidden_hash, scene_hash
from mindhand.worlds.desk import spec as desk
from mindhand.worlds.desk.families import FAMILIES
from mindhand.worlds.desk.world import DeskWorld
from mindhand.worlds.metaworld import MetaWorld, release
from mindhand.worlds.perturb import AXES
from mindhand.worlds.placing import FAMILY as PLACING
from mindhand.worlds.placing import read_placing
from mindhand.worlds.scene import FAMILY as MATHS
from mindhand.worlds.scene import read_reasoning

from .planned import keep_to, require_plan


def read_thought(text: str) -> dict[str, Any] | None:
    """The fields of a thought of any family of the desk, None where it has no exact form."""
    return read_reasoning(text) or read_placing(text)


@dataclass(frozen=True)
class Place:
    """One world as recipes use it.

    world: its maker, given how many rows, and perturb= where it `perturbs`. families: of its tasks. low, high (A,):
    what chance spans. parse: reads thoughts; `thinks`: whether right thoughts are known. noise, and labels {name: size}
    with their `look`, and the control steps that an expert is watched `after` it has succeeded: of demonstrations.
    scene: which declaration of scenes these are of.
    """

    world: Callable[..., Any]
    spec: Spec
    families: tuple[str, ...]
    low: np.ndarray
    high: np.ndarray
    scene: Callable[[], str]
    parse: Callable[[str], dict[str, Any] | None] = unread
    thinks: bool = False
    perturbs: bool = False
    noise: Noise = field(default_factory=Noise)
    labels: Mapping[str, int] = field(default_factory=dict)
    look: Labels = no_labels
    after: int = 0


ALONE = (heights.FAMILY, hidden.FAMILY)  # on the same desk, with scenes of their own declaration
DESK = Place(
    DeskWorld, desk.SPEC, tuple(f for f in FAMILIES if f not in ALONE), desk.ACTION_LOW, desk.ACTION_HIGH,
    scene_hash, parse=read_thought, thinks=True, perturbs=True, labels=GAZE, look=gaze, after=12,
)  # fmt: skip
HIDDEN = Place(  # the same desk; nobody thinks here, for a thought would be a memory
    DeskWorld, desk.SPEC, (hidden.FAMILY,), desk.ACTION_LOW, desk.ACTION_HIGH, hidden_hash, perturbs=True
)
METAWORLD = Place(
    MetaWorld, metaworld_spec.SPEC, (metaworld_spec.FAMILY,), metaworld_spec.ACTION_LOW, metaworld_spec.ACTION_HIGH,
    release, noise=Noise(sd=0.1, size=3),
)  # fmt: skip
PANDA = replace(  # the same desk with another arm; taken where its robot is named
    DESK, world=partial(DeskWorld, body="panda"), spec=desk.PANDA_SPEC, families=(MATHS, PLACING),
    low=desk.PANDA_LOW, high=desk.PANDA_HIGH,
    noise=Noise(sd=0.006, size=7),  # it works farther from its base: as far at the tool as the other arm's noise
)  # fmt: skip
HEIGHTS = replace(
    DESK, families=(heights.FAMILY,), scene=heights_hash, parse=unread, thinks=False, noise=Noise(sd=0.006),
    labels=DEPTH, look=depth, after=0,
)  # fmt: skip
PLACES = (DESK, HEIGHTS, HIDDEN, METAWORLD)


def place_of(tasks: Sequence[str], robot: str | None = None) -> Place:
    """Where these tasks are done, by a Panda where a dataset's or a policy's spec names that robot: all of them in one
    world, or a refusal."""
    places = (PANDA,) if robot == PANDA.spec.robot else PLACES
    found = [p for p in places if all(task.partition("/")[0] in p.families for task in tasks)]
    if len(found) != 1:
        known = [family for p in places for family in p.families]
        raise BadData(
            f"no one world for {list(tasks)}", f"tasks of one world, of families {known}", "correct the tasks"
        )
    return found[0]


def axes_of(tasks: Sequence[str]) -> tuple[str, ...]:
    """The perturbations that all families of these tasks know; none where their world knows none."""
    known = [FAMILIES[f].axes for f in {t.partition("/")[0] for t in tasks}] if place_of(tasks).perturbs else [()]
    return tuple(axis for axis in AXES if all(axis in some for some in known))


def worlds(protocol: Protocol, robot: str | None = None) -> Callable[[int], Any]:
    """A maker of a protocol's worlds, with the `robot` of a policy (`place_of`), for its arm: "clean", a perturbation
    ("camera3+light2"), one of `ARMS`, or both. Refuses an arm that the world does not know."""
    place, axes = place_of(protocol.tasks, robot), axes_of(protocol.tasks)
    perturb = perturbation_of(protocol.arm)
    told = [w for w in protocol.arm.split("+") if w in ARMS]
    if len(told) > 1:
        raise BadData(f"arm '{protocol.arm}'", f"at most one of {ARMS}", "evaluate one after the other")
    lacks = ""
    if unknown := set(perturb.to_json()) - set(axes):
        lacks = f"cannot be perturbed in {sorted(unknown)}" if axes else "cannot be perturbed"
    elif set(told) & set(THOUGHTS) and not place.thinks:
        lacks = "knows no right thoughts"
    if lacks:
        known = f"another arm; perturbations of {axes}" if axes else "another arm"
        raise Refusal(f"arm '{protocol.arm}' of {protocol.id}: that world {lacks}", known, "leave it out")
    made = partial(place.world, perturb=perturb) if perturb else place.world
    return ChangedWorlds(made, told[0]) if told else made


RECORDING = "recording.json"  # beside what was recorded: what is


def boxed(world: DeskWorld, row: int) -> str:
    """What the world says, with the boxes of what is named."""
    return world.reasoning_with_boxes(row)


SAID: dict[str, Thought] = {"own": own_words, "boxes": boxed}  # what goes with a frame: thoughts, by name


def _require_keys(folder: Path, keys: Sequence[Key]) -> None:
    """The same by the episodes that are there, whoever recorded them and whatever they wrote beside them."""
    if not (folder / INFO).exists():
        return
    there = [about.key for about in LeRobotReader(folder).episodes]
    if odd := [n for n, key in enumerate(there) if n >= len(keys) or key != keys[n]]:
        wanted = keys[odd[0]] if odd[0] < len(keys) else "no such episode"
        raise BadData(f"{folder} holds another recording: its episode {odd[0]} is {there[odd[0]]}", f"{wanted}",
                      "record into another folder; several are mixed when they are trained on")  # fmt: skip


def demonstrate(
    folder: Path,
    tasks: Sequence[str],
    episodes: int,
    *,
    command: str = "",
    workers: int = 2,
    console: Console | None = None,
    thoughts: str = "own",
    video: bool = False,
    robot: str | None = None,
) -> Path:
    """Demonstrations of some tasks in turn, by their world's expert, with injected noise, as a LeRobot dataset.
    Resumes, and finds finished what is finished; with more episodes the first ones stay the same. thoughts: of `SAID`.
    video: pictures as h264 instead of exactly. robot: as of `place_of`. BadData, with nothing touched, for a folder of
    another recording: other tasks, or in another order, other thoughts, another noise or seed, more episodes."""
    place = place_of(tasks, robot)
    keys = [Key("demonstrations", tasks[i % len(tasks)], i // len(tasks)) for i in range(episodes)]
    how = {"pictures": "model", "labels": place.labels, "scene": place.scene(), "command": command,
           "video": video}  # fmt: skip
    plan = {"tasks": list(tasks), "episodes": episodes, "thoughts": thoughts, "noise": asdict(place.noise),
            "after": place.after or None}  # fmt: skip
    require_plan(folder / RECORDING, plan, grows=("episodes",))
    _require_keys(folder, keys)
    with LeRobotWriter(folder, place.spec, **how) as writer:
        keep_to(folder / RECORDING, plan, grows=("episodes",))
        make, noise = partial(place.world, 2), place.noise
        record_with_workers(
            make,
            keys,
            writer,
            workers=workers,
            noise=noise,
            rows=2,
            thought=SAID[thoughts],
            labels=place.look,
            after=place.after,
            console=console,
        )
    return folder
