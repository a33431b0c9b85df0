"""Two sides: the numbers are those of the rows, and whatever else could explain a difference is refused."""

from __future__ import annotations

import io
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from mindhand.core.errors import BadData
from mindhand.core.intervals import hierarchical, mcnemar, wilson
from mindhand.core.keys import Keys
from mindhand.core.record import write_record
from mindhand.core.sequential import paired, required
from mindhand.evaluate import compare as module
from mindhand.evaluate.compare import compare, comparison_section, comparison_table, read_run
from mindhand.evaluate.protocol import MATHS, Protocol, keys
from mindhand.evaluate.report import write_report
from mindhand.evaluate.run import evaluate
from mindhand.worlds.scene import sample_task

from . import tiny

N = 120
PROTOCOL = replace(tiny.PROTOCOL, episodes=N)
VERSIONS = {"python": "3.11.7", "mindhand": "0.1.0", "torch": "2.13.0+cpu", "numpy": "2.4.6", "mujoco": "3.9.0"}


def wins(name: str, rate: float, count: int = 2 * N) -> np.ndarray:
    return Keys.seeded(1, name).uniform(count)[0] < rate


def write(folder: Path, rows: list[dict[str, Any]], about: dict[str, Any]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "run.json").write_text(json.dumps(about))
    (folder / "rows.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    (folder / "timing.jsonl").write_text("".join(json.dumps({"key": r["key"], "seconds": [0.1]}) + "\n" for r in rows))
    return folder


def run(folder: Path, success: np.ndarray, protocol: Protocol = PROTOCOL, **about: Any) -> Path:
    """A finished evaluation in which these episodes succeeded."""
    rows = [
        {
            "key": str(k), "protocol": k.protocol, "task": k.task, "index": k.index, "seed": k.seed,
            "success": bool(x), "end": "success" if x else "time", "steps": 9, "queries": 3, "instruction": "go",
            "thoughts": [], "interventions": [], "chosen_at": None, "facts": {}, "film": None,
        }
        for k, x in zip(keys(protocol), success, strict=True)
    ]  # fmt: skip
    base = {
        "protocol": protocol.to_json(), "policy": folder.name, "commit": "unknown", "code": "one code",
        "versions": VERSIONS, "hardware": {"cpu": "one"}, "seconds": 1.0,
    }  # fmt: skip
    return write(folder, rows, {**base, **about})


@pytest.fixture
def two(tmp_path) -> tuple[Path, Path]:
    """A solves about .8, B .5; one training each."""
    return run(tmp_path / "a", wins("a", 0.8)), run(tmp_path / "b", wins("b", 0.5))


def test_one_training_a_side(two):
    found = compare([two[0]], [two[1]])
    assert (found.a, found.b) == (("a",), ("b",))
    assert found.protocol == f"tiny-1 ({PROTOCOL.fingerprint()})"
    assert [(c.task, c.measure, c.n) for c in found.contrasts] == [("touch/R", "success", N), ("touch/X", "success", N)]
    for i, c in enumerate(found.contrasts):
        a, b = (wins(name, rate)[i * N : (i + 1) * N] for name, rate in (("a", 0.8), ("b", 0.5)))
        assert (c.a, c.b) == (wilson(a.sum(), N), wilson(b.sum(), N))
        assert c.difference.value == pytest.approx(a.mean() - b.mean())
        assert c.difference.low < c.difference.value < c.difference.high
        assert (c.only_a, c.only_b) == ((a & ~b).sum(), (b & ~a).sum())
        assert c.exact == mcnemar(c.only_a, c.only_b)
        assert c.verdict == paired(a, b, margin=module.MARGIN)
        assert c.verdict.word == "A"
        assert c.required == required(a.mean(), b.mean(), discordant=(c.only_a + c.only_b) / N)
        assert c.chance is None
    swapped = compare([two[1]], [two[0]])
    for c, s in zip(found.contrasts, swapped.contrasts):
        assert (s.only_a, s.only_b, s.verdict.word) == (c.only_b, c.only_a, "B")
        assert (s.difference.value, s.exact, s.required) == (pytest.approx(-c.difference.value), c.exact, c.required)


def test_a_policy_beside_one_that_does_the_same_is_alike_and_needs_no_number(tmp_path):
    same = wins("same", 0.7)
    found = compare([run(tmp_path / "a", same)], [run(tmp_path / "b", same)], margin=0.1)
    assert [(c.verdict.word, c.required, c.exact) for c in found.contrasts] == [("alike", None, 1.0)] * 2


def test_several_trainings(tmp_path):
    a = [run(tmp_path / f"a{i}", wins(f"a{i}", rate)) for i, rate in enumerate((0.9, 0.7, 0.5))]
    b = [run(tmp_path / f"b{i}", wins(f"b{i}", rate)) for i, rate in enumerate((0.6, 0.5, 0.4))]
    line = compare(a, b).contrasts[0]
    left = [wins(f"a{i}", rate)[:N] for i, rate in enumerate((0.9, 0.7, 0.5))]
    right = [wins(f"b{i}", rate)[:N] for i, rate in enumerate((0.6, 0.5, 0.4))]
    assert line.difference == hierarchical([x * 1.0 - y for x, y in zip(left, right)], same_items=True)
    assert line.only_a == sum((x & ~y).sum() for x, y in zip(left, right))
    assert (line.exact, line.verdict) == (None, None)  # their pairs are not independent
    # trainings that differ by 40 points say less than their 360 episodes would
    pooled = wilson(int(np.concatenate(left).sum()), 3 * N)
    assert line.a.low <= pooled.low and line.a.high >= pooled.high and line.a.high - line.a.low > 0.2
    one = compare(a, b[:1]).contrasts[0]
    assert one.difference == hierarchical([x * 1.0 - right[0] for x in left], same_items=True)
    assert one.b == wilson(int(right[0].sum()), N)
    assert one.only_b == sum((right[0] & ~x).sum() for x in left)


def test_a_record_of_the_same_rows_says_the_same(two, tmp_path):
    rows = [
        {"key": f"{r['index']:09}", "arm": arm, "success": r["success"]}
        for arm, folder in (("on", two[0]), ("off", two[1]))
        for r in read_run(folder).rows
        if r["task"] == "touch/R"
    ]
    record = write_record(
        "test/compare/difference", rows=rows, field="success", kind="difference", unit="1", chance=None,
        sources=["mindhand.evaluate.compare"], folder=tmp_path / "draft",
    )  # fmt: skip
    found = compare([two[0]], [two[1]]).contrasts[0].difference
    assert (record.value, record.low, record.high) == (found.value, found.low, found.high)


def test_a_real_evaluation_can_be_read(tmp_path):
    for name in "ab":
        evaluate(tiny.PROTOCOL, tiny.walker, tiny.world(tmp_path / "log"), tmp_path / name, name=name)
    found = compare([tmp_path / "a"], [tmp_path / "b"])
    assert [(c.n, c.only_a, c.only_b) for c in found.contrasts] == [(20, 0, 0)] * 2


def maths(folder: Path, choice: np.ndarray) -> Path:
    """A run of the paper's task: the tile chosen rightly as told, success in half of those."""
    protocol = MATHS.only("maths_matching/R", "maths_matching/X", episodes=len(choice) // 2)
    at = run(folder, choice & (np.arange(len(choice)) % 2 == 0), protocol)
    rows = [json.loads(line) for line in (at / "rows.jsonl").read_text().splitlines()]
    for row, key, right in zip(rows, keys(protocol), choice):
        row["facts"] = {"tiles": len(sample_task(key).tiles), "choice": 0, "choice_right": bool(right), "placed": 0}
    return write(at, rows, json.loads((at / "run.json").read_text()))


def test_choice_stands_beside_success_where_the_task_has_one(tmp_path):
    a, b = (maths(tmp_path / name, wins(name, rate, 40)) for name, rate in (("a", 0.9), ("b", 0.4)))
    found = compare([a], [b])
    assert [c.label for c in found.contrasts] == [
        "In-domain (R): success", "In-domain (R): choice", "True novelty (X): success", "True novelty (X): choice"
    ]  # fmt: skip
    choice = found.contrasts[1]
    assert choice.a == wilson(int(wins("a", 0.9, 40)[:20].sum()), 20)
    assert choice.chance is not None and 0.1 < choice.chance < 0.7
    assert choice.difference.value > found.contrasts[0].difference.value


def test_table_and_report(two, tmp_path):
    found = compare([two[0]], [two[1]])
    file = io.StringIO()
    Console(file=file, width=220).print(comparison_table(found))
    text = file.getvalue()
    line = found.contrasts[0]
    said = f"A after {line.verdict.decided} of {N}"
    points = f"{100 * line.difference.value:+.1f} ({100 * line.difference.low:+.1f} to "
    assert all(x in text for x in (said, points, f"{line.only_a}, {line.only_b}", f"{line.a.value:.2f} ("))
    heading, columns, rows = comparison_section(found)
    assert all(len(row) == len(columns) for row in rows)
    page = write_report(two[0], read_run(two[0]).rows, rate_hz=10.0, beside=[(heading, columns, rows)]).read_text()
    assert all(x in page for x in (said, points, "A (a) beside B (b)"))


def changed(folder: Path, **about: Any) -> Path:
    old = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps({**old, **about}))
    return folder


@pytest.mark.parametrize("field", ["replan", "steps", "version", "seed", "rows"])
def test_another_protocol_is_refused(field, two, tmp_path):
    other = replace(PROTOCOL, **{field: getattr(PROTOCOL, field) + 1})
    c = run(tmp_path / "c", wins("c", 0.5), other)
    with pytest.raises(BadData) as refusal:
        compare([two[0]], [c])
    assert all(x in refusal.value.what for x in (PROTOCOL.fingerprint(), other.fingerprint(), str(two[0]), str(c)))


def test_fewer_episodes_are_another_protocol(two, tmp_path):
    c = run(tmp_path / "c", wins("c", 0.5, N), PROTOCOL.only(episodes=N // 2))
    with pytest.raises(BadData, match="protocol of A"):
        compare([two[0]], [c])


@pytest.mark.parametrize(
    ("name", "version"),
    [("mujoco", "3.8.1"), ("torch", "2.12.1+cpu"), ("numpy", "2.3.0"), ("mindhand", "0.2.0"), ("python", "3.12.1")],
)
def test_another_version_is_refused_on_either_side(name, version, two):
    changed(two[1], versions={**VERSIONS, name: version})
    for a, b in (two, two[::-1]):
        with pytest.raises(BadData) as refusal:
            compare([a], [b])
        assert VERSIONS[name].partition("+")[0].rpartition(".")[0] in refusal.value.what
        assert version.partition("+")[0].rpartition(".")[0] in refusal.value.what
    with pytest.raises(BadData):  # among the trainings of a side too
        compare(list(two), [run(two[0].parent / "c", wins("c", 0.5))])


def test_a_version_that_is_not_told_is_refused(two):
    changed(two[1], versions={k: v for k, v in VERSIONS.items() if k != "mujoco"})
    with pytest.raises(BadData, match="mujoco absent"):
        compare([two[0]], [two[1]])


def test_what_no_outcome_follows_from_may_differ(two):
    changed(
        two[1],
        versions={**VERSIONS, "torch": "2.13.0+cu128", "python": "3.11.9", "transformers": "5.1.0"},
        hardware={"cpu": "another"},
        seconds=9.0,
    )
    assert compare([two[0]], [two[1]]).contrasts


def test_other_code_is_refused(two):
    changed(two[1], commit="another")  # of a document
    assert compare([two[0]], [two[1]]).contrasts
    changed(two[1], code="0123456789ab")
    with pytest.raises(BadData) as refusal:
        compare([two[0]], [two[1]])
    assert "one code" in refusal.value.what and "0123456789ab" in refusal.value.what


def lines(folder: Path) -> list[str]:
    return (folder / "rows.jsonl").read_text().splitlines()


def test_a_swapped_order_is_refused(two):
    a = lines(two[1])
    a[3], a[4] = a[4], a[3]
    (two[1] / "rows.jsonl").write_text("\n".join(a) + "\n")
    with pytest.raises(BadData, match="row 3: episode tiny-1/touch/R/4/0"):
        compare([two[0]], [two[1]])


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda a: a[:-1], "incomplete: 1 of 240"),
        (lambda a: a[5:], "incomplete: 5 of 240"),
        (lambda a: [*a, a[0]], "row 240"),
        (lambda a: [a[1], *a[1:]], "incomplete"),
        (lambda a: [a[0].replace('"index": 0', '"index": 7'), *a[1:]], "row 0"),
        (lambda a: [a[0].replace('"key": "tiny-1', '"key": "tiny-2'), *a[1:]], "incomplete"),
        (lambda a: [a[0].replace('"success"', '"succeeded"'), *a[1:]], "no run"),
        (lambda a: [a[0][:20], *a[1:]], "no run"),
        (lambda a: [], "incomplete"),
    ],
)
def test_rows_that_are_not_the_protocol_s_are_refused(change, word, two):
    (two[0] / "rows.jsonl").write_text("".join(line + "\n" for line in change(lines(two[0]))))
    with pytest.raises(BadData, match=word):
        compare([two[0]], [two[1]])


def test_folders_that_are_no_sides_are_refused(two, tmp_path):
    a, b = two
    c, d, e = (run(tmp_path / name, wins(name, 0.5)) for name in "cde")
    twin = Path(shutil.copytree(a, tmp_path / "twin"))
    for left, right, word in (
        ([], [b], "sides"),
        (a, [b], "sides"),
        ([tmp_path / "nowhere"], [b], "no run"),
        ([a], [a], "as A and as B"),
        ([a, a], [b], "as A and as A"),
        ([a, twin], [b], "one policy twice"),
        ([a, b], [c, d, e], "2 trainings of A and 3 of B"),
    ):
        with pytest.raises(BadData, match=word):
            compare(left, right)
    assert compare([a], [twin]).contrasts  # a policy may be measured against itself
    for name in ("policy", "protocol", "versions", "commit", "code"):
        old = json.loads((a / "run.json").read_text())
        (a / "run.json").write_text(json.dumps({k: v for k, v in old.items() if k != name}))
        with pytest.raises(BadData, match=r"no run|not a protocol"):
            compare([a], [b])
        (a / "run.json").write_text(json.dumps(old))
