"""An evaluation against another one stops when it is certain: on a tiny world, by policies whose rates are known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from mindhand.core.errors import BadData
from mindhand.core.keys import Key
from mindhand.evaluate import protocol as protocols
from mindhand.evaluate.protocol import Protocol
from mindhand.evaluate.run import evaluate
from mindhand.recipes import evaluate as verb
from mindhand.recipes.race import race
from tests.evaluate.tiny import PROTOCOL
from tests.tiny_world import TinyWorld, Walker

RIGHT, WRONG = Path("right"), Path("wrong")
LONG = replace(PROTOCOL, tasks=("touch/R",), episodes=320, rows=16)


def tiny_rows(
    checkpoint: Path, protocol: Protocol, folder: Path, *, films: int = 0, workers: int = 1,
    some: Sequence[Key] | None = None, **_,
) -> list:  # fmt: skip
    """`recipes.rollouts.rows_of` of the tiny world: who is right always, or never."""
    policy = partial(Walker, noise=0.0, wrong=float(checkpoint == WRONG))
    return evaluate(protocol, policy, TinyWorld, folder, name=checkpoint.name, some=some)


def lines(folder: Path) -> int:
    return len((folder / "rows.jsonl").read_text().splitlines())


@pytest.fixture(scope="module")
def wrong(tmp_path_factory) -> Path:
    """A finished evaluation of who is never right."""
    folder = tmp_path_factory.mktemp("wrong")
    assert not any(r["success"] for r in tiny_rows(WRONG, PROTOCOL, folder))
    return folder


def test_who_is_always_right_wins_before_all_is_run(wrong, tmp_path):
    raced = race(RIGHT, PROTOCOL, tmp_path / "a", wrong, workers=1, run_rows=tiny_rows)
    assert [(r.task, r.verdict.word, r.of) for r in raced] == [(task, "A", 20) for task in PROTOCOL.tasks]
    seen = [r.verdict.n for r in raced]
    assert all(n < PROTOCOL.episodes and n % PROTOCOL.rows == 0 for n in seen) and lines(tmp_path / "a") == sum(seen)
    assert all(r.verdict.decided == n and r.verdict.interval.low > 0 for r, n in zip(raced, seen))
    # What was left out is run by the same evaluation without a rival, and what is there is not run again.
    before = (tmp_path / "a" / "timing.jsonl").read_text().splitlines()
    assert len(tiny_rows(RIGHT, PROTOCOL, tmp_path / "a")) == 40
    assert set(before) <= set((tmp_path / "a" / "timing.jsonl").read_text().splitlines())


def test_who_is_never_right_loses(wrong, tmp_path):
    tiny_rows(RIGHT, PROTOCOL, tmp_path / "right")
    raced = race(WRONG, PROTOCOL, tmp_path / "b", tmp_path / "right", workers=1, run_rows=tiny_rows)
    assert {r.verdict.word for r in raced} == {"B"} and lines(tmp_path / "b") < 40


def test_equal_ones_are_alike_or_nothing_is_said(wrong, tmp_path):
    raced = race(WRONG, PROTOCOL, tmp_path / "few", wrong, workers=1, run_rows=tiny_rows)
    assert [(r.verdict.word, r.verdict.n) for r in raced] == [("undecided", 20)] * 2 and lines(tmp_path / "few") == 40
    tiny_rows(RIGHT, LONG, tmp_path / "long")
    (one,) = race(RIGHT, LONG, tmp_path / "many", tmp_path / "long", workers=1, run_rows=tiny_rows)
    assert one.verdict.word == "alike" and lines(tmp_path / "many") == one.verdict.n < LONG.episodes


def test_the_verb_says_so_and_refuses_another_protocol(wrong, tmp_path, monkeypatch, capsys):
    def asked(run: Path, name: str = PROTOCOL.name) -> int:
        nothing = {"language": False, "blind": False, "thoughts": False, "wrap": (), "shield": (), "perturb": ()}
        return verb.evaluate(
            Path("expert"), name, (), None, **nothing, base=None, compare=(), against=wrong, workers=1, run=run
        )

    monkeypatch.setattr(protocols, "PROTOCOLS", {PROTOCOL.name: PROTOCOL, "long": LONG})
    monkeypatch.setattr(verb, "rows_of", tiny_rows)
    assert asked(tmp_path / "run") == 0
    said = capsys.readouterr().out
    assert said.count("better") == 2 and said.count("of 20") == 2 and "+100 (" in said
    assert not (tmp_path / "run" / "report.html").exists()
    with pytest.raises(BadData, match="another protocol"):
        asked(tmp_path / "other", "long")
    assert not (tmp_path / "other").exists()
