"""A protocol: everything that decides an evaluation's number apart from the policy, frozen under a name and version.

Two numbers may be compared where name and version agree. Whoever changes a field here raises the version: the
version is in every episode's Key, so other scenes are drawn and old rows cannot be taken for new ones.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from mindhand.core.errors import BadData
from mindhand.core.keys import Key
from mindhand.core.spec import Camera, Spec
from mindhand.worlds import heights, hidden, metaworld_spec
from mindhand.worlds.biased import BIASED, OTHER
from mindhand.worlds.cued import CUE, REVERSED

CLEAN = "clean"


@dataclass(frozen=True)
class Protocol:
    """tasks: as the world names them. episodes: of each task. steps: control steps after which time is up. replan:
    actions carried out before the policy is asked again. rows: the fixed batch the policy is asked for. images:
    what the policy sees, exactly. seed: of all keys. success: the rule, in words, for the report. arm: what is told or
    shown otherwise ("blank", "camera3+light2"; `evaluate.arms`, `worlds.perturb`); it is not in the keys, so that every
    arm has the scenes of the clean one."""

    name: str
    version: int
    tasks: tuple[str, ...]
    episodes: int
    steps: int
    replan: int
    rows: int
    images: tuple[Camera, ...]
    success: str
    seed: int = 0
    arm: str = CLEAN

    def __post_init__(self) -> None:
        if min(self.version, self.episodes, self.steps, self.replan, self.rows) < 1 or not self.tasks:
            raise BadData(
                f"protocol '{self.name}' with a count below 1 or no task", "counts of at least 1", "correct it"
            )
        if len(set(self.tasks)) != len(self.tasks):
            raise BadData(f"protocol '{self.name}' names a task twice", "each task once", "remove one")

    @property
    def id(self) -> str:
        """ "name-version": what keys and reports call it."""
        return f"{self.name}-{self.version}"

    def only(self, *tasks: str, episodes: int | None = None) -> Protocol:
        """Some of its tasks, or fewer episodes of each: the same episodes, so the same numbers for those. More
        episodes than the protocol has are refused."""
        if unknown := set(tasks) - set(self.tasks):
            raise BadData(f"protocol {self.id} has no task {sorted(unknown)}", f"some of {list(self.tasks)}", "choose")
        if episodes is not None and not 1 <= episodes <= self.episodes:
            raise BadData(f"{episodes} episodes of {self.id}", f"1 to {self.episodes}", "or raise its version")
        return replace(
            self, tasks=tuple(t for t in self.tasks if t in tasks or not tasks), episodes=episodes or self.episodes
        )

    def require(self, spec: Spec) -> None:
        """Refuse a world whose pictures are not the protocol's."""
        if spec.cameras != self.images:
            raise BadData(
                f"protocol {self.id} is defined for {[asdict(c) for c in self.images]}, "
                f"the world shows {[asdict(c) for c in spec.cameras]}",
                "the same cameras: a change of resolution or resize is another protocol",
                "build the world with the protocol's cameras",
            )

    def to_json(self) -> dict[str, Any]:
        """Plain lists and dictionaries; no arm where it is clean."""
        out = json.loads(json.dumps(asdict(self)))
        return out if self.arm != CLEAN else {k: v for k, v in out.items() if k != "arm"}

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Protocol:
        """The inverse of `to_json`."""
        try:
            images = tuple(Camera(**{**c, "source": tuple(c["source"])}) for c in data["images"])
            return Protocol(**{**data, "tasks": tuple(data["tasks"]), "images": images})
        except (KeyError, TypeError) as error:
            raise BadData(f"not a protocol: {error}", "the fields of Protocol", "write it again") from error

    def fingerprint(self) -> str:
        """12 hexadecimal digits that change with any field."""
        return hashlib.sha256(json.dumps(self.to_json(), sort_keys=True).encode()).hexdigest()[:12]


def keys(protocol: Protocol) -> list[Key]:
    """The episodes of a protocol, task by task. With fewer episodes or tasks they are a part of the same list."""
    return [Key(protocol.id, task, i, protocol.seed) for task in protocol.tasks for i in range(protocol.episodes)]


MATHS = Protocol(
    name="maths-matching",
    version=2,
    tasks=tuple(f"maths_matching/{split}" for split in ("R", "C", "K-dev", "K-test", "X")),
    episodes=200,
    steps=260,
    replan=8,
    rows=16,
    images=(
        Camera("front", 128, 128, source=(128, 128)),
        Camera("wrist", 64, 64, source=(128, 128), interpolation="area"),
    ),
    success="every digit of the answer lies in its place of the tray, no other tile does, within the world's time",
)
MATHS_SCANNED = replace(
    MATHS,
    name="maths-matching-scanned",
    version=1,
    tasks=tuple(f"maths_matching/{split}/scanned" for split in ("K-dev", "K-test")),
)
PLACING = Protocol(
    name="spatial-placing",
    version=1,
    tasks=tuple(f"spatial_placing/{split}" for split in ("R", "K-dev", "K-test", "X")),
    episodes=200,
    steps=150,
    replan=8,
    rows=16,
    images=MATHS.images,
    success="the toy named was lifted and lies still, released, as it was to lie to the other one, which was not moved "
    "by more than 2 cm, nor any other toy by more than 3, within the world's time",
)

# What cannot be done beside what can, of the same keys and therefore (`worlds.absent`) the same scenes but for what is
# absent: whoever always refuses has all of one half and nothing of the other.
MATHS_ABSENT = replace(
    MATHS,
    name="maths-matching-absent",
    version=1,
    tasks=tuple(f"maths_matching/{split}{word}" for split in ("R", "K-dev", "K-test", "X") for word in ("", "/absent")),
    episodes=100,
    success=f"{MATHS.success}; where tiles of the answer are absent, none was taken or moved when the time is up, and "
    "the hand is at home",
)
PLACING_ABSENT = replace(
    PLACING,
    name="spatial-placing-absent",
    version=1,
    tasks=tuple(
        f"spatial_placing/{split}{word}"
        for split in ("R", "K-dev", "K-test", "X")
        for word in ("", "/absent-target", "/absent-reference")
    ),
    episodes=100,
    success=f"{PLACING.success}; where one of both is absent, no toy was taken or moved when the time is up, and the "
    "hand is at home",
)
# A colour goes along with a side as it does in demonstrations of the first task, and against it: the same places.
PLACING_CUE = replace(PLACING, name="spatial-placing-cue", tasks=(CUE, REVERSED), episodes=100)
# A bowl tells which ball is meant as it does in demonstrations of the first task, or the other one is: the same scenes.
PLACING_BIASED = replace(PLACING, name="spatial-placing-biased", tasks=(BIASED, OTHER), episodes=100)
COURSE = replace(
    PLACING,
    name="obstacle-course",
    tasks=tuple(f"obstacle_course/{level}" for level in ("clear", "near", "across")),
    steps=200,
    success="the toy named was lifted and lies still, released, as it was to lie to the other one, which was not moved "
    "by more than 2 cm, nor any other toy by more than 3, nor ever an obstacle by more than 1, within the world's time",
)
HEIGHTS = Protocol(
    name="height-reaching",
    version=1,
    tasks=tuple(f"{heights.FAMILY}/{kind}" for kind in heights.KINDS),
    episodes=200,
    steps=60,
    replan=8,
    rows=16,
    images=MATHS.images,
    success="when the time is up the tool point has been 1.5 to 3.5 cm over the block's top and within 2 cm of its "
    "middle for a quarter of a second, and the arm never touched the block",
)
# What a picture does not tell, and, as the last task, what it does.
HIDDEN = Protocol(
    name="hidden-state",
    version=1,
    tasks=tuple(f"{hidden.FAMILY}/{kind}" for kind in hidden.KINDS),
    episodes=100,
    steps=300,
    replan=8,
    rows=16,
    images=MATHS.images,
    success="the pads that were to be touched were touched in turn and no other, the hand was at the gate before each "
    "touch and after the last, and is at home, within the world's time",
)
# Meta-World's ten and fifty tasks, seen through the desk's kind of eyes. Scenes are drawn by key from each task's own
# space: not the fifty goals that Meta-World draws for its lists. Time is up when its own is.
METAWORLD_10 = Protocol(
    name="metaworld-mt10",
    version=1,
    tasks=tuple(map(metaworld_spec.task_of, metaworld_spec.MT10)),
    episodes=50,
    steps=metaworld_spec.LIMIT,
    replan=8,
    rows=16,
    images=metaworld_spec.SPEC.cameras,
    success="what Meta-World itself calls success, once within its 500 steps; where things are and belong is seen, not "
    "told",
)
METAWORLD_50 = replace(
    METAWORLD_10, name="metaworld-mt50", tasks=tuple(map(metaworld_spec.task_of, metaworld_spec.TASKS)), episodes=20
)
_ABSENT = (MATHS_ABSENT, PLACING_ABSENT)
_DESK = (MATHS, MATHS_SCANNED, PLACING, *_ABSENT, PLACING_CUE, PLACING_BIASED, COURSE, HEIGHTS, HIDDEN)
PROTOCOLS: Mapping[str, Protocol] = {p.name: p for p in (*_DESK, METAWORLD_10, METAWORLD_50)}


def named(name: str) -> Protocol:
    """The protocol of that name, or a refusal that lists the known ones."""
    try:
        return PROTOCOLS[name]
    except KeyError:
        raise BadData(f"no protocol '{name}'", f"one of {sorted(PROTOCOLS)}", "check the spelling") from None
