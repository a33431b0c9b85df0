"""Measures the desk: does the expert solve it, does its judge refuse what is wrong, how fast does it go.

    python -m mindhand.recipes.bench_desk             all of it, about 25 minutes on one core, into results/
    python -m mindhand.recipes.bench_desk runs/desk   drafts into another folder

Every function returns the rows that its record is computed from; expected numbers are in the docstrings.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import mindhand.worlds.desk.world
from mindhand.core.keys import Key, Keys
from mindhand.core.record import Record, write_record
from mindhand.worlds.absent import WORDS as ABSENT
from mindhand.worlds.course import FAMILY as COURSE
from mindhand.worlds.course import LEVELS
from mindhand.worlds.desk.body import BODIES
from mindhand.worlds.desk.controls import Wanderer, careless, insist, mislead, nearest_order, wrong_order
from mindhand.worlds.desk.placing_controls import MISTAKES, mistaken, nearest
from mindhand.worlds.desk.render import render_scene
from mindhand.worlds.desk.world import DeskWorld
from mindhand.worlds.perturb import Perturbation
from mindhand.worlds.placing import FAMILY as PLACING
from mindhand.worlds.scene import FAMILY as MATHS
from mindhand.worlds.scene import sample_maths
from mindhand.worlds.things import FIELD

Row = dict[str, Any]
NOISE, KEEP = 0.012, 0.9  # sd in rad of the joint noise, and how much of it lasts a control step
SOURCES = sorted(p for p in Path(mindhand.worlds.__path__[0]).rglob("*.py") if p.name != "gym.py")


def episode(world: Any, key: Key, act: Callable[[int], np.ndarray]) -> Row:
    """The facts of an episode that was reset in row 0; act: control step -> actions (1,A)."""
    step = 0
    while True:
        outcome = world.step(act(step), [0])
        step += 1
        if outcome.done[0]:
            return {"key": key, "success": bool(outcome.success[0]), **outcome.facts[0]}


def _keys(protocol: str, task: str, count: int) -> Iterator[Key]:
    return (Key(protocol, task, i) for i in range(count))


def expert(
    split: str, episodes: int = 500, noise: float = 0.0, family: str = MATHS, arms: int = 1, body: str = "viperx"
) -> list[Row]:
    """The scripted expert's episodes; `noise`: sd (rad) of Ornstein-Uhlenbeck noise on the joint command.

    Expected of 500: 500 without noise, R and K-dev alike (Wilson 95 %: from 99.2 %); 498 with NOISE. Of placing 500 of
    every class; 494 with NOISE. With two arms the same. Of impossible requests 500, and 500 with NOISE. Of 200 of each
    level of the obstacle course: 200. With a Panda the same of the first two families.
    """
    rows, joints = [], len(BODIES[body].joints) * arms
    with DeskWorld(1, arms=arms, body=body) as world:
        for key in _keys("bench-desk", f"{family}/{split}", episodes):
            world.reset([key], [0])
            draws = Keys.of([key]).fold("noise").normal(400, joints)[0].astype(float)
            state = np.zeros(joints)

            def act(step: int, state: np.ndarray = state, draws: np.ndarray = draws) -> np.ndarray:
                if noise:
                    state *= KEEP
                    state += noise * np.sqrt(1 - KEEP**2) * draws[step]
                    world.disturb([0], state[None])
                return world.expert([0])

            rows.append(episode(world, key, act))
    return rows


def wanderer(split: str = "R", episodes: int = 200, family: str = MATHS) -> list[Row]:
    """A random policy over tiles and tray, or over toys. Expected: no success."""
    rows = []
    with DeskWorld(1) as world:
        for key in _keys("bench-wander", f"{family}/{split}", episodes):
            world.reset([key], [0])
            driver = Wanderer(key) if family == MATHS else Wanderer(key, FIELD)
            rows.append(episode(world, key, lambda _, driver=driver: driver.act()[None]))
    return rows


def wrong(what: str, split: str = "R", episodes: int = 200) -> list[Row]:
    """The expert's hand with a wrong mind: `what` "tile" places a tile that does not serve first, "order" the two
    right tiles swapped (answers with two different digits). `arrived`: they really lay in the tray at the end.

    Expected: no success, and arrived in all but a few.
    """
    task = f"maths_matching/{split}" + ("/2" if what == "order" else "")
    rows: list[Row] = []
    index = 0
    with DeskWorld(1) as world:
        while len(rows) < episodes:
            key = Key(f"bench-wrong-{what}", task, index)
            index += 1
            world.reset([key], [0])
            scene = world.scene(0)
            if what == "order" and len(set(scene.equation.digits)) == 1:
                continue
            order = scene.order()[::-1] if what == "order" else wrong_order(scene, Keys.of([key]))
            driver = insist(world, 0, order)
            row = episode(world, key, lambda _: world.expert([0]))
            rows.append({**row, "arrived": len(driver.done) == len(order)})
    return rows


def misled(what: str, split: str = "R", episodes: int = 200) -> list[Row]:
    """The expert of placing with one thing wrong: "target", "reference" or "relation". `arrived`: the toy really lay
    where the mistake has it. Expected: no success, and arrived in all but a few."""
    rows: list[Row] = []
    index = 0
    with DeskWorld(1) as world:
        while len(rows) < episodes:
            key = Key(f"bench-misled-{what}", f"{PLACING}/{split}", index)
            index += 1
            world.reset([key], [0])
            belief = mistaken(world.scene(0), what, Keys.of([key]))
            if belief is not None:
                driver = mislead(world, 0, belief)
                row = episode(world, key, lambda _: world.expert([0]))
                rows.append({**row, "arrived": driver.belief.success})
    return rows


def tempted(split: str, episodes: int = 200, family: str = MATHS) -> list[Row]:
    """The expert's hand with a mind that misses nothing: an impossible request is taken for the nearest possible one.
    `took`: it closed upon a thing. Expected: no success, and took in all."""
    rows: list[Row] = []
    with DeskWorld(1) as world:
        for key in _keys("bench-tempted", f"{family}/{split}", episodes):
            world.reset([key], [0])
            scene = world.scene(0)
            if family == MATHS:
                insist(world, 0, nearest_order(scene))
            else:
                mislead(world, 0, nearest(scene))
            row = episode(world, key, lambda _: world.expert([0]))
            rows.append({**row, "took": row["closed"] >= 0})
    return rows


def frozen(split: str, episodes: int = 200, family: str = MATHS, start: int = 0) -> list[Row]:
    """An arm that holds its first pose. start: level of that perturbation. Expected of impossible requests: 200 of a
    clean start, which is at home; 0 of their possible twins; of level 5 a sixth."""
    rows = []
    with DeskWorld(1, Perturbation(start=start)) as world:
        for key in _keys("bench-frozen", f"{family}/{split}", episodes):
            world.reset([key], [0])
            pose = world.observe([0], ()).state[0]
            rows.append(episode(world, key, lambda _, pose=pose: pose))
    return rows


def unaware(level: str, episodes: int = 200) -> list[Row]:
    """The expert of placing among obstacles that it does not know of. Facts are those of the whole episode.

    Expected: all succeed and none hits at the level "clear", a quarter hits at "near", and all hit and none succeeds
    at "across".
    """
    rows: list[Row] = []
    with DeskWorld(1) as world:
        for key in _keys("bench-unaware", f"{COURSE}/{level}", episodes):
            world.reset([key], [0])
            careless(world, 0)
            rows.append(episode(world, key, lambda _: world.expert([0])))
    return rows


def steps_per_second(
    cameras: Sequence[str] | None,
    windows: int = 16,
    seconds: float = 1.0,
    family: str = MATHS,
    arms: int = 1,
    split: str = "R",
    body: str = "viperx",
) -> list[Row]:
    """Control steps a processor second of one row with the expert driving, resets included; `cameras` as in
    `observe`, drawn every step. One row a window; the first, which warms up, is left out. Seconds of the
    processor, so that what else runs on the machine counts only by the caches and units it takes.

    Expected of a processor whose other thread is busy: 3,000 without cameras, 450 with both; more when it is idle. Two
    arms with three cameras: a quarter less.
    """
    rows: list[Row] = []
    task = f"{family}/{split}"
    with DeskWorld(1, arms=arms, body=body) as world:
        index = 0
        world.reset([Key("bench-speed", task, index)], [0])
        for window in range(windows + 1):
            steps, begin = 0, time.process_time()
            while (spent := time.process_time() - begin) < seconds:
                world.observe([0], cameras)
                steps += 1
                if world.step(world.expert([0]), [0]).done[0]:
                    index += 1
                    world.reset([Key("bench-speed", task, index)], [0])
            rows.append({"key": f"window {window}", "rate": steps / spent, "steps": steps})
    return rows[1:]


def scenes_per_second(windows: int = 16, scenes: int = 200) -> list[Row]:
    """Scenes a processor second of image-text generation: sampled, drawn at 128 pixels with camera and light
    jitter, every glyph located. Expected of a processor whose other thread is busy: 430."""
    keys = [Keys.seeded(scenes, "bench-scenes", window) for window in range(windows + 1)]

    def draw(k: int) -> None:
        key = keys[k // scenes][[k % scenes]]
        render_scene(sample_maths(key, "K-dev"), jitter=key)

    return per_second(draw, windows, scenes)


def per_second(draw: Callable[[int], Any], windows: int, count: int) -> list[Row]:
    """How often a processor second draws; one row a window. The first window, which warms up, is left out."""
    rows: list[Row] = []
    for window in range(windows + 1):
        begin = time.process_time()
        for k in range(count):
            draw(window * count + k)
        rows.append({"key": f"window {window}", "rate": count / (time.process_time() - begin)})
    return rows[1:]


def _writer(folder: str | None) -> Callable[..., Record]:
    """Writes records of the desk, under results/ or as drafts under `folder`."""

    def write(name: str, rows: list[Row], field: str = "success", kind: str = "rate", unit: str = "1") -> Record:
        record = write_record(
            f"desk/{name}", rows=rows, field=field, kind=kind, unit=unit, chance=None,
            sources=[*SOURCES, Path(__file__)], folder=folder,
        )  # fmt: skip
        print(f"{record.name:40} {record.show()}", flush=True)
        return record

    return write


def maths_matching(folder: str | None = None) -> list[Record]:
    """The first family, and the world's speed."""
    write, out = _writer(folder), []
    for split in ("R", "K-dev"):
        out.append(write("expert_success/maths_matching" + ("" if split == "R" else "_k_dev"), expert(split)))
    out.append(write("expert_success/maths_matching_noise", expert("R", noise=NOISE)))
    out.append(write("negative_controls/random", wanderer()))
    for what in ("tile", "order"):
        rows = wrong(what)
        out.append(write(f"negative_controls/wrong_{what}", rows))
        out.append(write(f"negative_controls/wrong_{what}_arrived", rows, "arrived"))
    for name, cameras in (("no_camera", ()), ("one_arm_two_cameras_128", None)):
        out.append(write(f"steps_per_second/{name}", steps_per_second(cameras), "rate", "mean", "steps/cpu-s"))
    out.append(write("expert_success/maths_matching_two_arms", expert("R", arms=2)))
    two = steps_per_second(None, arms=2)
    out.append(write("steps_per_second/maths_matching_two_arms", two, "rate", "mean", "steps/cpu-s"))
    out.append(write("scenes_per_second/front_128", scenes_per_second(), "rate", "mean", "scenes/cpu-s"))
    return out


def spatial_placing(folder: str | None = None) -> list[Record]:
    """The second family."""
    write, out = _writer(folder), []
    for split in ("R", "K-dev/object", "K-dev/relation", "X"):
        name = split.lower().replace("-", "_").replace("/", "_")
        out.append(write(f"expert_success/{PLACING}_{name}", expert(split, family=PLACING)))
    out.append(write(f"expert_success/{PLACING}_noise", expert("R", noise=NOISE, family=PLACING)))
    out.append(write(f"negative_controls/{PLACING}_random", wanderer(family=PLACING)))
    for what in MISTAKES:
        rows = misled(what)
        out.append(write(f"negative_controls/{PLACING}_wrong_{what}", rows))
        out.append(write(f"negative_controls/{PLACING}_wrong_{what}_arrived", rows, "arrived"))
    for name, cameras in (("no_camera", ()), ("two_cameras_128", None)):
        rows = steps_per_second(cameras, family=PLACING)
        out.append(write(f"steps_per_second/{PLACING}_{name}", rows, "rate", "mean", "steps/cpu-s"))
    return out


def impossible(folder: str | None = None) -> list[Record]:
    """What cannot be done, of both families: leave it alone."""
    write, out = _writer(folder), []
    for family, words in ABSENT.items():
        for word in words:
            name = f"{family}_{word.replace('-', '_')}"
            for split, end in (("R", ""), ("K-dev", "_k_dev")):
                out.append(write(f"expert_success/{name}{end}", expert(f"{split}/{word}", family=family)))
            out.append(write(f"expert_success/{name}_noise", expert(f"R/{word}", noise=NOISE, family=family)))
            out.append(write(f"negative_controls/{name}_random", wanderer(f"R/{word}", family=family)))
            rows = tempted(f"R/{word}", family=family)
            out.append(write(f"negative_controls/{name}_nearest", rows))
            out.append(write(f"negative_controls/{name}_nearest_took", rows, "took"))
            for start in (0, 5):
                rows = frozen(f"R/{word}", family=family, start=start)
                out.append(write(f"negative_controls/{name}_frozen" + ("_start5" if start else ""), rows))
        out.append(write(f"negative_controls/{family}_frozen_twin", frozen("R", family=family)))
    return out


def obstacle_course(folder: str | None = None) -> list[Record]:
    """The third family: the expert, and one that does not know of the obstacles."""
    write, out = _writer(folder), []
    rows = [row for level in LEVELS for row in expert(level, episodes=200, family=COURSE)]
    out.append(write(f"expert_success/{COURSE}", rows))
    out.append(write(f"obstacle_hits/{COURSE}_expert", rows, "hit"))
    noisy = [row for level in LEVELS for row in expert(level, episodes=200, noise=NOISE, family=COURSE)]
    out.append(write(f"expert_success/{COURSE}_noise", noisy))
    for level in LEVELS:
        rows = unaware(level)
        out.append(write(f"obstacle_hits/{level}", rows, "hit"))
        out.append(write(f"unaware_success/{COURSE}_{level}", rows))
    for name, cameras in (("", ()), ("_two_cameras_128", None)):
        rows = steps_per_second(cameras, family=COURSE, split="near")
        out.append(write(f"steps_per_second/{COURSE}{name}", rows, "rate", "mean", "steps/cpu-s"))
    return out


def panda(folder: str | None = None, episodes: int = 500, windows: int = 16, seconds: float = 1.0) -> list[Record]:
    """The first two families with a Panda. episodes: of each; windows of so many seconds: of the speed."""
    write = _writer(folder)
    out = [
        write(f"expert_success/panda_{family}", expert("R", episodes, family=family, body="panda"))
        for family in (MATHS, PLACING)
    ]
    rows = steps_per_second(None, windows, seconds, body="panda")
    return [*out, write("steps_per_second/panda_two_cameras", rows, "rate", "mean", "steps/cpu-s")]


if __name__ == "__main__":
    maths_matching(*sys.argv[1:2])
    spatial_placing(*sys.argv[1:2])
    impossible(*sys.argv[1:2])
    obstacle_course(*sys.argv[1:2])
    panda(*sys.argv[1:2])
