"""Measures the desk's two small families, height reaching and hidden state, as `bench_desk` does the others: their
expert, who lacks what they are about, and how fast they go.

    mindhand bench others       about six minutes on one core, into results/
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mindhand.core.keys import Key, Keys
from mindhand.core.record import Record, write_record
from mindhand.evaluate import score_unseen
from mindhand.worlds import heights, hidden
from mindhand.worlds.desk.controls import Wanderer, presume
from mindhand.worlds.desk.hidden_expert import Forgetful
from mindhand.worlds.desk.world import DeskWorld

from .bench_desk import SOURCES, Row, episode, expert, steps_per_second

KINDS = {heights.FAMILY: heights.KINDS, hidden.FAMILY: hidden.KINDS}


def experts(family: str, episodes: int = 100) -> list[Row]:
    """The scripted expert's episodes, so many of every kind. Expected: all."""
    return [row for kind in KINDS[family] for row in expert(kind, episodes, family=family)]


def presuming(kind: str = "varied", episodes: int = 200) -> list[Row]:
    """The expert over a block that it takes to be as high as the mean one. Expected: a fifth of the varied ones, which
    is the chance of a hand that does not see heights."""
    rows: list[Row] = []
    task = f"{heights.FAMILY}/{kind}"
    with DeskWorld(1) as world:
        for key in (Key("bench-presuming", task, i) for i in range(episodes)):
            world.reset([key], [0])
            presume(world, 0, heights.MEAN)
            rows.append(_with_chance(episode(world, key, lambda _: world.expert([0])), task))
    return rows


def forgetful(kind: str, episodes: int = 200) -> list[Row]:
    """An expert that remembers nothing and guesses at the gate as well as can be (`desk.hidden_expert.Forgetful`).
    Expected: the chance of such a one (`hidden.CHANCE`), and all of "seen"."""
    rows: list[Row] = []
    task = f"{hidden.FAMILY}/{kind}"
    with DeskWorld(1) as world:
        for key in (Key("bench-forgetful", task, i) for i in range(episodes)):
            world.reset([key], [0])
            world._row(0).expert = Forgetful(Keys.of([key]))
            rows.append(_with_chance(episode(world, key, lambda _: world.expert([0])), task))
    return rows


def wandering(family: str, episodes: int = 100) -> list[Row]:
    """A random arm, so many episodes of every kind. Expected: no success."""
    rows: list[Row] = []
    with DeskWorld(1) as world:
        for key in (Key("bench-wander", f"{family}/{kind}", i) for kind in KINDS[family] for i in range(episodes)):
            world.reset([key], [0])
            driver = Wanderer(key)
            rows.append(episode(world, key, lambda _, driver=driver: driver.act()[None]))
    return rows


def _with_chance(row: Row, task: str) -> Row:
    chance = score_unseen.CHANCE.get(task)
    return row if chance is None else {**row, "success_chance": chance}


def others(
    folder: str | None = None, episodes: int = 100, tries: int = 200, windows: int = 16, seconds: float = 1.0
) -> list[Record]:
    """The records of both families, under results/ or as drafts under `folder`. episodes: of the expert and of a random
    arm, of every kind; tries: of those that lack something; windows of so many seconds: of the speed."""
    out: list[Record] = []

    def write(name: str, rows: Sequence[Row], field: str = "success", kind: str = "rate", unit: str = "1") -> None:
        chance = "success_chance" if "success_chance" in rows[0] else None
        record = write_record(
            f"desk/{name}", rows=list(rows), field=field, kind=kind, unit=unit, chance=chance, folder=folder,
            sources=[*SOURCES, "mindhand.recipes.bench_desk", "mindhand.evaluate.score_unseen", Path(__file__)],
            command="mindhand bench others",
        )  # fmt: skip
        out.append(record)

    for family, kinds in KINDS.items():
        write(f"expert_success/{family}", experts(family, episodes))
        write(f"negative_controls/{family}_random", wandering(family, episodes))
        for name, cameras in (("no_camera", ()), ("two_cameras_128", None)):
            rows = steps_per_second(cameras, windows, seconds, family=family, split=kinds[0])
            write(f"steps_per_second/{family}_{name}", rows, "rate", "mean", "steps/cpu-s")
    for kind in heights.KINDS:
        write(f"negative_controls/{heights.FAMILY}_presuming_{kind}", presuming(kind, tries))
    for kind in hidden.KINDS:
        write(f"negative_controls/{hidden.FAMILY}_forgetful_{kind}", forgetful(kind, tries))
    return out
