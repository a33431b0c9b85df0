"""Measures the desk's two small families, height reaching and hidden state, as `bench_desk` does the others: their
expert, who lacks what they are about, and how fast they go.

    mindhand bench others       about six minutes on one core, into results/
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
    return _lacking(
        "bench-presuming", f"{heights.FAMILY}/{kind}", episodes, lambda world, _: presume(world, 0, heights.MEAN)
    )


def forgetful(kind: str, episodes: int = 200) -> list[Row]:
    """An expert that remembers nothing and guesses at the gate as well as can be (`desk.hidden_expert.Forgetful`).
    Expected: the chance of such a one (`hidden.CHANCE`), and all of "seen"."""

    def forget(world: DeskWorld, key: Key) -> None:
        world._row(0).expert = Forgetful(Keys.of([key]))

    return _lacking("bench-forgetful", f"{hidden.FAMILY}/{kind}", episodes, forget)


def _lacking(name: str, task: str, episodes: int, take: Callable[[DeskWorld, Key], None]) -> list[Row]:
    """Episodes of a task by an expert from whom `take(world, key)` took something once the episode was there, with the
    chance of one that guesses."""
    rows: list[Row] = []
    chance = score_unseen.CHANCE.get(task)
    known = {} if chance is None else {"success_chance": chance}
    with DeskWorld(1) as world:
        for key in (Key(name, task, i) for i in range(episodes)):
            world.reset([key], [0])
            take(world, key)
            rows.append(episode(world, key, lambda _: world.expert([0])) | known)
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
