"""Arms of an evaluation: the same episodes, and one thing that the policy is told or shown is another.

    blank         no instruction
    swapped       the instruction of something else that could be done here
    paraphrased   the same in other words
    dark          black pictures
    told          the right thought is given at every query, instead of an own one
    misled        a thought in the right form, but of another thing: does the hand take that one?
    emptied       a thought without words
    last          the last sentence of the right thought alone

The world goes on asking for what it asked for: a policy that heeds its instruction fails the first two, one that
understands it passes the third, and one that looks fails the fourth. What changes nothing is refused, so that no arm
can be clean in secret. The recording camera sees what is there.

Given thoughts (2505.21906 has no such test; interventions as in 2603.12717) part what a mind knows from what a hand
does with it: success when told is the hand's own, and `rac` of the misled rows is how often the hand obeys.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, cast

import numpy as np

from mindhand.core.errors import BadData
from mindhand.core.intervals import Interval, bootstrap
from mindhand.core.nouns import Observation
from mindhand.core.seams import World
from mindhand.worlds.perturb import CLEAN, Perturbation

LANGUAGE = ("blank", "swapped", "paraphrased")
THOUGHTS = ("told", "misled", "emptied", "last")
ARMS = (*LANGUAGE, "dark", *THOUGHTS)


class Worded(World, Protocol):
    """A World that knows other words."""

    def wordings(self, row: int) -> Mapping[str, str]:
        """{"swapped": the instruction of something else, "paraphrased": the same in other words}, by the row's key;
        without what there is not."""
        ...

    def thoughts(self, row: int) -> Mapping[str, str]:
        """{"told": what is right to think now, "misled": the same of another thing}; the other one by the row's key."""
        ...


class Changed:
    """A World whose policy is told or shown something else; everything but what a policy observes is the world's own.
    The arms of language and of thoughts need one that is `Worded`."""

    def __init__(self, world: World, arm: str):
        if arm not in ARMS:
            raise BadData(f"arm '{arm}'", f"one of {ARMS}", "choose")
        self._world, self._arm = world, arm

    def __getattr__(self, name: str) -> Any:
        return getattr(self._world, name)

    def observe(self, rows: Sequence[int], cameras: Sequence[str] | None = None) -> Observation:
        """As the world, changed where a policy asks: it names no cameras, recorders and filters do."""
        obs = self._world.observe(rows, cameras)
        if cameras is not None:
            return obs
        if self._arm == "dark":
            return replace(obs, images={role: np.zeros_like(x) for role, x in obs.images.items()})
        if self._arm in THOUGHTS:
            return obs.with_text("thought", [self._given(r) for r in rows])
        return obs.with_text(
            "instruction", [self._told(r, said) for r, said in zip(rows, obs.text["instruction"], strict=True)]
        )

    def _given(self, row: int) -> str:
        thoughts = cast(Worded, self._world).thoughts(row)
        if self._arm in thoughts:
            return thoughts[self._arm]
        return "" if self._arm == "emptied" else thoughts["told"].rstrip(".").rpartition(". ")[2] + "."

    def _told(self, row: int, said: str) -> str:
        told = "" if self._arm == "blank" else cast(Worded, self._world).wordings(row).get(self._arm)
        if told is None:
            raise BadData(f"arm '{self._arm}': there is nothing else to say here for '{said}'", "other words",
                          "leave this arm out")  # fmt: skip
        if told == said:
            raise BadData(f"the arm '{self._arm}' says '{said}', as without it", "other words", "mend the wordings")
        return told


def perturbation_of(arm: str) -> Perturbation:
    """How the scenes of a protocol's arm are perturbed: "camera3+blank" as "camera3"."""
    return Perturbation.parse("+".join(w for w in arm.split("+") if w not in ARMS) or str(CLEAN))


@dataclass(frozen=True)
class ChangedWorlds:
    """A maker of changed worlds, for worker processes."""

    world: Callable[[int], World]
    arm: str

    def __call__(self, rows: int) -> World:
        """A changed world of so many rows."""
        return cast(World, Changed(self.world(rows), self.arm))


def sensitivity(
    clean: Sequence[Mapping[str, Any]], changed: Sequence[Sequence[Mapping[str, Any]]], measure: str = "success"
) -> Interval:
    """How much less is done with blank and swapped instructions, in points of a rate: the mean over these arms of
    clean - changed, on the same episodes. 0: language is not heeded; the clean rate: nothing is done without it.

    BadData where the episodes are not the same ones in the same order.
    """
    keys = [r["key"] for r in clean]
    if not changed or any([r["key"] for r in rows] != keys for rows in changed):
        raise BadData("arms of other episodes", "the clean arm's, in its order", "run the same protocol")
    return bootstrap([float(r[measure]) - np.mean([c[measure] for c in arms]) for r, *arms in zip(clean, *changed)])
