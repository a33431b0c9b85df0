"""Exports: the layouts of LeRobot and of the harness, field by field, with the numbers of the rows."""

from __future__ import annotations

import json
import math
import re
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mindhand.core.errors import BadData
from mindhand.core.intervals import bootstrap, wilson
from mindhand.evaluate.arms import sensitivity
from mindhand.evaluate.export import _metrics, harness_result, lerobot_info, write_exports
from mindhand.evaluate.journal import line
from mindhand.evaluate.ledger import open_ktest
from mindhand.evaluate.protocol import Protocol, keys
from mindhand.evaluate.report import summary
from mindhand.evaluate.run import evaluate, film_of, latencies
from mindhand.evaluate.scores import POINTS, RATES
from tests.tiny_world import SPEC

from . import tiny

WHEN = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> tuple[Path, list]:
    """A finished evaluation on the tiny world with two films a task."""
    folder = tmp_path_factory.mktemp("export")
    film = film_of(tiny.PROTOCOL, "top", 2)
    rows = evaluate(
        tiny.PROTOCOL, tiny.walker, tiny.world(folder / "log"), folder / "run", name="walker-12ab", film=film
    )
    return folder / "run", rows


def copy(source: Path, target: Path) -> Path:
    target.mkdir()
    for name in ("run.json", "rows.jsonl", "timing.jsonl"):
        (target / name).write_bytes((source / name).read_bytes())
    return target


def share(rows: list) -> float:
    return sum(r["success"] for r in rows) / len(rows)


POOLED = ["avg_sum_reward", "avg_max_reward", "pc_success", "n_episodes", "video_paths", "predicted_video_paths"]


def test_lerobot_s_layout(run):
    folder, rows = run
    info = lerobot_info(folder)
    assert list(info) == ["per_task", "per_group", "overall"]
    assert [(t["task_group"], t["task_id"]) for t in info["per_task"]] == [("touch/R", 0), ("touch/X", 0)]
    for entry in info["per_task"]:
        assert list(entry) == ["task_group", "task_id", "metrics"]
        m, some = entry["metrics"], [r for r in rows if r["task"] == entry["task_group"]]
        assert list(m) == ["sum_rewards", "max_rewards", "successes", "video_paths", "predicted_video_paths"]
        assert m["successes"] == [r["success"] for r in some] and all(type(s) is bool for s in m["successes"])
        assert m["sum_rewards"] == m["max_rewards"] == [float(r["success"]) for r in some]
        group = info["per_group"][entry["task_group"]]
        assert list(group) == POOLED
        assert group["n_episodes"] == len(some) == tiny.PROTOCOL.episodes
        assert group["pc_success"] == pytest.approx(100 * share(some)) and group["pc_success"] > 1
        assert group["avg_sum_reward"] == group["avg_max_reward"] == share(some)
        assert group["video_paths"] == m["video_paths"] == [r["film"] for r in some if r["film"]]
        assert len(m["video_paths"]) == 2 and all((folder / v).exists() for v in m["video_paths"])
    overall, seconds = info["overall"], json.loads((folder / "run.json").read_text())["seconds"]
    assert list(overall) == [*POOLED[:4], "eval_s", "eval_ep_s", *POOLED[4:]]
    assert overall["pc_success"] == pytest.approx(100 * share(rows)) and overall["n_episodes"] == len(rows)
    assert overall["eval_s"] == seconds > 0 and overall["eval_ep_s"] == pytest.approx(seconds / len(rows))
    assert len(overall["video_paths"]) == 4


def test_a_group_is_a_split_and_its_tasks_are_numbered(run, tmp_path):
    p = replace(tiny.PROTOCOL, tasks=("a/R/1", "a/R/2", "a/X", "b"), episodes=2)
    info = lerobot_info(made(tmp_path / "run", p, [True, False, True, True, False, False, True, True]))
    assert [(t["task_group"], t["task_id"]) for t in info["per_task"]] == [("a/R", 0), ("a/R", 1), ("a/X", 0), ("b", 0)]
    assert {g: v["pc_success"] for g, v in info["per_group"].items()} == {"a/R": 75.0, "a/X": 0.0, "b": 100.0}
    assert info["per_group"]["a/R"]["n_episodes"] == 4 and info["overall"]["pc_success"] == 62.5


def test_a_film_that_is_gone_is_not_named(run, tmp_path):
    assert lerobot_info(copy(run[0], tmp_path / "run"))["overall"]["video_paths"] == []


# What the harness' collector computes of episodes, said again: the file must agree with its own episodes.
def collected(episodes: list[dict], keyed: dict[str, str]) -> dict:
    out = {}
    for name, how in keyed.items():
        assert how == "mean"
        known = [e["metrics"][name] for e in episodes if name in e["metrics"]]
        assert all(isinstance(v, int | float) for v in known)
        out[f"mean_{name}"] = round(sum(known) / len(known), 4)
    return out


def test_the_harness_layout(run):
    folder, rows = run
    body = harness_result(folder, created=WHEN)
    p = tiny.PROTOCOL
    assert (body["benchmark"], body["mode"], body["seed"]) == ("tiny-1", "sync", p.seed)
    assert body["harness_version"].startswith("mindhand-") and body["created_at"] == "2030-01-02T03:04:05+00:00"
    assert body["config"]["params"]["seed"] == p.seed and body["config"]["tasks"] == list(p.tasks)
    assert (body["config"]["episodes_per_task"], body["config"]["max_steps"]) == (p.episodes, p.steps)
    assert body["metric_keys"] == {"success": "mean"} and body["num_episodes_total"] == len(rows)
    assert [t["task"] for t in body["tasks"]] == list(p.tasks)
    assert body["mean_success"] == round(share(rows), 4)
    for task in body["tasks"]:
        some = [r for r in rows if r["task"] == task["task"]]
        assert collected(task["episodes"], body["metric_keys"]) == {"mean_success": task["mean_success"]}
        assert task["num_episodes"] == len(some) and task["num_errors"] == 0
        assert task["avg_steps"] == sum(r["steps"] for r in some) / len(some)
        # Theirs are crashes. These episodes ended without success, and none crashed.
        assert any(not e["metrics"]["success"] for e in task["episodes"])
        assert all(e["failure_reason"] is None for e in task["episodes"])
        found = wilson(sum(r["success"] for r in some), len(some))
        assert task["interval"]["mean_success"] == {
            "value": found.value, "low": found.low, "high": found.high, "n": len(some), "method": "wilson",
        }  # fmt: skip
        for e, r in zip(task["episodes"], some, strict=True):
            assert (e["episode_id"], e["steps"], e["eid"]) == (r["index"], r["steps"], r["key"])
            assert (e["prompt"], e["end"], e["film"]) == (r["instruction"], r["end"], r["film"])
            assert e["interventions"] == r["interventions"] and e["metrics"] == {"success": r["success"]}
    assert body["interval"]["mean_success"]["n"] == len(rows)


def test_what_the_harness_file_says_besides(run):
    folder, _ = run
    body, about = harness_result(folder), json.loads((folder / "run.json").read_text())
    assert body["protocol"] == {"name": "tiny", "version": 1, "hash": tiny.PROTOCOL.fingerprint()}
    assert body["policy"] == "walker-12ab" and "walker-12ab" in body["eval_id"]
    assert {n: body[n] for n in ("commit", "versions", "hardware")} == {
        n: about[n] for n in ("commit", "versions", "hardware")
    }
    assert body["latency"] == {"unit": "ms", **latencies(folder)}
    assert "ktest" not in body and "elapsed_sec" in body["filled"]
    assert datetime.fromisoformat(body["created_at"]).utcoffset() is not None
    spent = [json.loads(text) for text in (folder / "timing.jsonl").read_text().splitlines()]
    assert [e["elapsed_sec"] for t in body["tasks"] for e in t["episodes"]] == [
        round(sum(s["seconds"]), 3) for s in spent
    ]


def test_scores_come_along_and_what_was_not_measured_is_absent(run):
    folder, rows = run
    scored = [
        {
            **r,
            "choice": i % 4 != 0,
            "rac": None if i % 2 else i % 3 == 0,
            "ocr": i % 5,
            "why": "" if r["success"] else "w",
        }
        for i, r in enumerate(rows)
    ]
    body = harness_result(folder, scored)
    assert body["metric_keys"] == {"success": "mean", "choice": "mean", "rac": "mean", "ocr": "mean"}
    episodes = [e for t in body["tasks"] for e in t["episodes"]]
    assert collected(episodes, body["metric_keys"]) == {k: v for k, v in body.items() if k.startswith("mean_")}
    assert ["rac" in e["metrics"] for e in episodes] == [i % 2 == 0 for i in range(len(rows))]
    assert body["interval"]["mean_rac"]["n"] == len(rows) / 2
    found = bootstrap([r["ocr"] for r in scored])
    assert (body["interval"]["mean_ocr"]["low"], body["interval"]["mean_ocr"]["high"]) == (found.low, found.high)
    assert {e["why"] for e in episodes} == {"", "w"}


def test_scores_of_every_family_are_exported():
    """What the report shows of a row, the harness' file has; nothing that is scored is left behind in silence."""
    row = {"task": "t", **{name: True for name in RATES}, **{name: 1 for name in POINTS}}
    line = summary([row | {"digits": 1}])[0]
    assert set(_metrics(row)) == set(line.measures) == {*RATES, *POINTS}
    assert {"recognition", "spatial", "hit", "displaced"} < set(RATES)


def test_replaced_decodings_are_counted(run):
    folder, rows = run
    body = harness_result(folder, [{**r, "errors": i % 3} for i, r in enumerate(rows)])
    episodes = [e for t in body["tasks"] for e in t["episodes"]]
    assert [e["decode_errors"] for e in episodes] == [i % 3 for i in range(len(rows))]
    assert body["decode_errors"] == sum(t["decode_errors"] for t in body["tasks"]) == sum(i % 3 for i in range(40))
    assert harness_result(folder)["decode_errors"] == 0


def test_protocol_and_robot_have_one_hash(run, tmp_path):
    folder, _ = run
    found = harness_result(folder, spec=SPEC)["contract_hash"]
    assert re.fullmatch("[0-9a-f]{12}", found) and found == harness_result(folder, spec=SPEC)["contract_hash"]
    other = made(tmp_path / "run", replace(tiny.PROTOCOL, replan=5), [True] * 40)
    unlike = {harness_result(folder, spec=replace(SPEC, rate=20.0))["contract_hash"],
              harness_result(other, spec=SPEC)["contract_hash"]}  # fmt: skip
    assert len({found, *unlike}) == 3 and harness_result(folder)["contract_hash"] is None


def test_sensitivity_to_language_is_a_number_of_its_own(run):
    folder, rows = run
    deaf = {"blank": rows, "swapped": rows, "paraphrased": rows}
    lost = [{**r, "success": False} for r in rows]
    body = harness_result(folder, arms={**deaf, "swapped": lost})
    found = body["language_sensitivity"]["success"]
    assert found["value"] == pytest.approx(share(rows) / 2)
    assert found == asdict(sensitivity(rows, [rows, lost])) and list(body["language_sensitivity"]) == ["success"]
    for task in body["tasks"]:
        some = [r for r in rows if r["task"] == task["task"]]
        assert task["language_sensitivity"]["success"]["value"] == pytest.approx(share(some) / 2)
        assert task["language_sensitivity"]["success"]["n"] == len(some)
    none = harness_result(folder, arms=deaf)["language_sensitivity"]["success"]
    assert none["value"] == none["low"] == none["high"] == 0
    assert "language_sensitivity" not in harness_result(folder, arms={"paraphrased": lost})
    with pytest.raises(BadData, match="other episodes"):
        harness_result(folder, arms={"blank": rows[1:]})


def test_scores_of_another_run_are_refused(run):
    folder, rows = run
    for other in (rows[:-1], [{**r, "success": not r["success"]} for r in rows], [{**r, "steps": 1} for r in rows]):
        with pytest.raises(BadData, match="scores that are not of"):
            harness_result(folder, other)
    assert harness_result(folder, rows[::-1], created=WHEN) == harness_result(folder, created=WHEN)  # any order


def test_the_files(run, tmp_path):
    folder = copy(run[0], tmp_path / "run")
    info, result = write_exports(folder)
    assert (info.name, result.name) == ("eval_info.json", "tiny-1_aggregate.json")

    def strict(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    for file, content in ((info, lerobot_info(folder)), (result, harness_result(folder))):
        found = json.loads(file.read_text(), parse_constant=strict)
        assert {**found, "created_at": 0} == {**content, "created_at": 0}
        assert str(tmp_path) not in file.read_text()
    again = result.read_text()
    write_exports(folder)
    assert [a for a, b in zip(again.splitlines(), result.read_text().splitlines(), strict=True) if a != b] in (
        [],
        [x for x in again.splitlines() if "created_at" in x],
    )


@pytest.mark.parametrize("export", [lerobot_info, harness_result, write_exports])
def test_an_unfinished_or_damaged_run_is_refused(export, run, tmp_path):
    lines = (run[0] / "rows.jsonl").read_bytes().splitlines(keepends=True)
    for i, (name, content, match) in enumerate(
        (
            ("rows.jsonl", b"".join(lines[:-3]), "lacks 3 of 40 episodes"),
            ("rows.jsonl", b"".join(lines)[:-5], "line 40"),
            ("rows.jsonl", lines[0] + b"[]\n", "line 2"),
            ("timing.jsonl", b"", "lacks 40 of 40"),
            ("run.json", b"{", "run.json"),
            ("run.json", b"3", "run.json"),
            ("run.json", b'{"protocol": {}}', "lacks .'commit'"),
        )
    ):
        folder = copy(run[0], tmp_path / str(i))
        (folder / name).write_bytes(content)
        with pytest.raises(BadData, match=match):
            export(folder)
        assert not list(folder.glob("*eval_info*")) and not list(folder.glob("*aggregate*"))
    for name in ("rows.jsonl", "timing.jsonl", "run.json"):
        folder = copy(run[0], tmp_path / f"no-{name}")
        (folder / name).unlink()
        with pytest.raises(BadData, match=name):
            export(folder)


def made(folder: Path, p: Protocol, successes: list[bool], steps: int = 7) -> Path:
    """A run folder as `evaluate` leaves it, with these outcomes."""
    about = {"protocol": p.to_json(), "policy": "made", "commit": "unknown", "versions": {"mindhand": "9"},
             "hardware": {}, "seconds": 1.5}  # fmt: skip
    rows = [
        {"key": str(k), "task": k.task, "index": k.index, "success": s, "end": "success" if s else "time",
         "steps": steps + i, "queries": 1, "instruction": "do", "errors": 0, "thoughts": [], "interventions": [],
         "film": None}
        for i, (k, s) in enumerate(zip(keys(p), successes, strict=True))
    ]  # fmt: skip
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps(about))
    (folder / "rows.jsonl").write_bytes(b"".join(map(line, rows)))
    (folder / "timing.jsonl").write_bytes(b"".join(line({"key": r["key"], "seconds": [0.5]}) for r in rows))
    return folder


@settings(max_examples=30)
@given(st.integers(1, 4), st.integers(1, 6), st.data())
def test_both_forms_tell_the_rows_outcomes(tasks, episodes, data):
    p = replace(tiny.PROTOCOL, tasks=tuple(f"t/{i}" for i in range(tasks)), episodes=episodes)
    outcomes = data.draw(st.lists(st.booleans(), min_size=tasks * episodes, max_size=tasks * episodes))
    with TemporaryDirectory() as home:
        folder = made(Path(home) / "run", p, outcomes)
        info, body = lerobot_info(folder), harness_result(folder)
    assert [s for t in info["per_task"] for s in t["metrics"]["successes"]] == outcomes
    assert [e["metrics"]["success"] for t in body["tasks"] for e in t["episodes"]] == outcomes
    for group, task in zip(info["per_group"].values(), body["tasks"], strict=True):
        assert group["pc_success"] / 100 == pytest.approx(task["mean_success"], abs=5e-5)
        assert group["n_episodes"] == task["num_episodes"] == episodes
    assert math.isclose(info["overall"]["eval_ep_s"] * tasks * episodes, 1.5)
    assert round(info["overall"]["pc_success"] / 100, 4) == body["mean_success"]


def test_a_look_at_k_test_is_told(tmp_path):
    p = replace(tiny.PROTOCOL, tasks=("a/R", "a/K-test"), episodes=1)
    folder = made(tmp_path / "around", p, [True, False])
    assert harness_result(folder)["ktest"] is None  # rows that no opening stands for
    for run in ("one", "two"):
        look = open_ktest(p, "made", made(tmp_path / run, p, [True, False]), ledger=tmp_path / "k.jsonl", who="Ada")
    told = harness_result(tmp_path / "two")["ktest"]
    assert told == {
        "opened_before": 1, "opened_before_for_this_checkpoint": 1, "time": look.time, "line": look.hash,
    }  # fmt: skip
