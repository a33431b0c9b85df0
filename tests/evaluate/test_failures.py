"""Failures are filmed after the run, are what was counted, and stand first on the page."""

from __future__ import annotations

import re

import pytest

from mindhand.evaluate.failures import DIFFERS, film_failures, first_failures
from mindhand.evaluate.report import write_report
from mindhand.evaluate.run import Job, evaluate, film_of
from tests.tiny_world import TinyWorld, Walker

from .tiny import PROTOCOL, walker


class Fickle(Walker):
    """Means another thing from its second life on: no function of its keys."""

    lives = 0

    def __init__(self):
        super().__init__(wrong=1.0, noise=0.02 if Fickle.lives else 0.0)
        Fickle.lives += 1


def job(folder, policy=walker) -> Job:
    return Job(PROTOCOL, policy, TinyWorld, None, film_of(PROTOCOL, "top", 1), folder)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """An evaluation that filmed the first episode of each task, and its rows with their first failures filmed."""
    folder = tmp_path_factory.mktemp("run")
    made = job(folder)
    rows = evaluate(PROTOCOL, made.policy, made.world, folder, name="walker", film=made.film)
    kept = (folder / "rows.jsonl").read_bytes()
    after = film_failures(made, rows, 2)
    assert (folder / "rows.jsonl").read_bytes() == kept
    return folder, rows, after


def test_a_late_failure_is_filmed_and_is_the_episode_that_was_counted(run):
    folder, rows, after = run
    lost = first_failures(rows, 2)
    assert len(lost) == 4 and {r["task"] for r in lost} == set(PROTOCOL.tasks)
    late = [r for r in lost if r["index"] > 0]
    assert late and not any(r["film"] for r in late)
    films = {r["key"]: r["film"] for r in after if r["film"]}
    assert set(films) == {r["key"] for r in lost} | {r["key"] for r in rows if r["film"]}
    assert all((folder / film).stat().st_size > 500 for film in films.values())
    assert [{**r, "film": None} for r in after] == [{**r, "film": None} for r in rows]
    assert not any("replay" in r for r in after) and not list(folder.glob("tmp*"))


def test_what_is_filmed_is_not_played_again(run):
    folder, rows, after = run

    def never():
        raise AssertionError("a policy was made")

    assert film_failures(job(folder, never), rows, 2) == after


def test_the_page_begins_with_failures_their_thought_and_why(run):
    folder, _, after = run
    told = [r if r["success"] else {**r, "why": f"took another <one> in {r['index']}"} for r in after]
    text = write_report(folder, told, rate_hz=10.0).read_text()
    assert text.index("<h2>Failures</h2>") < text.index("<h2>Films</h2>") < text.index("<h2>Run</h2>")
    section = text[text.index("<h2>Failures</h2>") : text.index("<h2>Films</h2>")]
    late = next(r for r in told if not r["success"] and r["film"] and r["index"] > 0)
    (figure,) = [f for f in re.findall("<figure>.*?</figure>", section) if f"episode {late['index']}: failure" in f
                 and ("In-domain" in f) == (late["task"] == "touch/R")]  # fmt: skip
    assert "<video" in figure and f"took another &lt;one&gt; in {late['index']}" in figure
    assert late["thoughts"][0][1] in figure and late["instruction"] in figure
    assert section.count("<video") == sum(bool(r["film"]) for r in told if not r["success"])
    assert text.count("<video") == sum(bool(r["film"]) for r in told)  # no film twice


def test_a_replay_that_goes_another_way_is_no_film(tmp_path):
    made = job(tmp_path, Fickle)
    rows = evaluate(PROTOCOL, made.policy, made.world, tmp_path, name="fickle", film=None)
    after = film_failures(made, rows, 1)
    assert [r["replay"] for r in after if "replay" in r] == [DIFFERS] * 2 and not any(r["film"] for r in after)
    text = write_report(tmp_path, after, rate_hz=10.0).read_text()
    assert text.count(DIFFERS) == 2 and "<video" not in text
