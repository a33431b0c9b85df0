"""What the desk needs to know of a task family: scenes, a stage to lay them out on, a judge, an expert, other words."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from mindhand.core.errors import BadData
from mindhand.core.keys import Key, Keys
from mindhand.worlds import absent, asked, biased, course, heights, hidden, placing, scene
from mindhand.worlds.perturb import AXES, Perturbation, perturbed_placing, perturbed_scene
from mindhand.worlds.wordings import misled, placing_misled, placing_wordings, wordings

from .altered import Altered, AlteredCourseStage, AlteredStage, AlteredToyStage
from .course_expert import CourseExpert
from .course_judge import CourseJudge
from .course_stage import CourseStage, free_start
from .driver import Driver
from .expert import Expert
from .heights_expert import HeightsExpert
from .heights_judge import HeightsJudge
from .heights_stage import HeightsStage
from .hidden_expert import HiddenExpert
from .hidden_judge import HiddenJudge
from .hidden_stage import HiddenStage
from .judge import Judge
from .placing_expert import PlacingExpert
from .placing_judge import PlacingJudge
from .playground import ToyStage
from .refusal import Refusal, Refuser
from .stage import Stage
from .starts import LOWEST

Pose = tuple[float, float, float]  # x, y (m), yaw (rad)


class Account(Protocol):
    """A judge: the running account of one episode. `limit`: the control steps that it may take; `rest`: where each
    thing last lay; `now`: the scene as it is; `placed`: how many of its things are where they belong."""

    success: bool
    limit: int
    rest: list[Pose]

    @property
    def now(self) -> Any: ...
    @property
    def placed(self) -> int: ...
    def update(self, stage: Any) -> None: ...
    def facts(self) -> dict[str, Any]: ...
    def reasoning(self, stage: Any) -> str: ...
    def target(self, stage: Any) -> tuple[int, np.ndarray] | None: ...
    def goal(self, stage: Any) -> np.ndarray | None: ...
    def geometry(self, stage: Any) -> Mapping[str, Any]: ...
    def data(self) -> dict[str, Any]: ...
    def load(self, data: dict[str, Any]) -> None: ...


@dataclass(frozen=True)
class Family:
    """sample: the scene of an episode; read: one from its JSON; altered: the stage where its looks are perturbed;
    lying: where its things are at first; perturbed: the same as it then lies and is asked for; wordings: what else
    could be said; misled: what would be wrong to think. axes: the perturbations that it knows; lowest: the height (m)
    that a perturbed start keeps above the table; free: whether an arm may then have these joints; arms: the most that
    its desk may have, where `stage` is given their number, and its expert says what way a thing goes (`Driver.way`);
    bodies: whose arm may be there, where `stage` is given another than the first."""

    name: str
    sample: Callable[[Key], Any]
    read: Callable[[dict[str, Any]], Any]
    stage: Callable[..., Stage]
    altered: Callable[..., Altered]
    lying: Callable[[Any], Sequence[Pose]]
    judge: Callable[[Any], Account]
    expert: Callable[[Keys], Driver]
    perturbed: Callable[[Any, Key, Perturbation], Any]
    wordings: Callable[[Key, Any], dict[str, str]]
    misled: Callable[[Key, Any], str]
    axes: tuple[str, ...]
    lowest: float
    arms: int = 1
    bodies: tuple[str, ...] = ("viperx", "panda")
    free: Callable[[Any, np.ndarray], bool] = lambda scene, joints: True


_MATHS = Family(
    name=scene.FAMILY,
    sample=asked.sample_task,
    read=scene.MathsScene.from_json,
    stage=Stage,
    altered=AlteredStage,
    lying=lambda s: [(t.x, t.y, t.yaw) for t in s.tiles],
    judge=Judge,
    expert=Expert,
    perturbed=perturbed_scene,
    wordings=lambda key, s: wordings(key, s.instruction),
    misled=lambda key, judge: misled(key, judge.now, judge.taken),
    axes=AXES,
    lowest=LOWEST,
    arms=2,
)
_PLACING = Family(
    name=placing.FAMILY,
    sample=biased.sample_task,
    read=placing.PlacingScene.from_json,
    stage=ToyStage,
    altered=AlteredToyStage,
    lying=lambda s: [(t.x, t.y, t.yaw) for t in s.toys.toys],
    judge=PlacingJudge,
    expert=PlacingExpert,
    perturbed=perturbed_placing,
    wordings=placing_wordings,
    misled=lambda key, judge: placing_misled(key, judge.now),
    axes=AXES,
    lowest=0.125,  # the highest toy, and what the pads reach below the pinch point
    arms=2,
)
_COURSE = replace(  # toys are placed, among obstacles, whose layout is what a level is: it stays
    _PLACING,
    name=course.FAMILY,
    sample=course.sample_course_task,
    read=course.CourseScene.from_json,
    stage=CourseStage,
    altered=AlteredCourseStage,
    judge=CourseJudge,
    expert=CourseExpert,
    axes=tuple(axis for axis in AXES if axis != "layout"),
    free=free_start,
    arms=1,
    bodies=("viperx",),  # detours are planned, and found free, for its shape
)
_HEIGHTS = Family(
    name=heights.FAMILY,
    sample=heights.sample_heights_task,
    read=heights.HeightScene.from_json,
    stage=HeightsStage,
    altered=AlteredStage,  # never made: of its axes none needs one
    lying=lambda s: [],
    judge=HeightsJudge,
    expert=HeightsExpert,
    perturbed=lambda s, key, perturb: s,
    wordings=lambda key, s: {},
    misled=lambda key, judge: "",
    axes=("noise",),
    lowest=0.15,  # over the highest block
)
_HIDDEN = replace(  # nothing lies loose here either
    _HEIGHTS,
    name=hidden.FAMILY,
    sample=hidden.sample_hidden_task,
    read=hidden.HiddenScene.from_json,
    stage=HiddenStage,
    judge=HiddenJudge,
    expert=HiddenExpert,
    wordings=hidden.hidden_wordings,
    axes=("start", "noise"),
    lowest=LOWEST,
)
FAMILIES = {f.name: f for f in (_MATHS, _PLACING, _COURSE, _HEIGHTS, _HIDDEN)}

# Where what is asked for is absent: the same scenes but for that, and success is to leave them alone.
IMPOSSIBLE = {
    scene.FAMILY: replace(
        _MATHS,
        sample=absent.sample_maths_task,
        judge=lambda s: Refusal(Judge(s), [str(t.digit) for t in s.tiles]),
        expert=Refuser,
        misled=lambda key, judge: misled(key, judge.now),
        arms=1,
    ),
    placing.FAMILY: replace(
        _PLACING,
        sample=absent.sample_placing_task,
        judge=lambda s: Refusal(PlacingJudge(s), [t.full for t in s.toys.toys]),
        expert=Refuser,
        arms=1,
    ),
}


def family_of(key: Key, perturb: Perturbation, arms: int = 1, body: str = "viperx") -> Family:
    """The family that a key's task names; refuses one that there is not, perturbations that it does not know, more arms
    than it has a use for, and a body that its scenes are not made for."""
    name = key.task.partition("/")[0]
    if name not in FAMILIES:
        raise BadData(f"task '{key.task}'", f"one of the families {tuple(FAMILIES)}", "correct Key.task")
    family = (IMPOSSIBLE if absent.possible(key.task)[1] else FAMILIES)[name]
    if unknown := set(perturb.to_json()) - set(family.axes):
        raise BadData(f"perturbation of {sorted(unknown)} in '{name}'", f"axes among {family.axes}", "leave them clean")
    if arms > family.arms:
        raise BadData(f"'{name}' on a desk with {arms} arms", f"at most {family.arms}", "DeskWorld(rows, arms=1)")
    if body not in family.bodies:
        raise BadData(f"'{name}' with the body '{body}'", f"one of {family.bodies}", "choose another body or family")
    return family
