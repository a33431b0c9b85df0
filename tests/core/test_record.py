"""Records: computed from rows or refused, and what changes them afterwards shows."""

from __future__ import annotations

import gzip
import json
import subprocess
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from mindhand.core import intervals, provenance, record
from mindhand.core.errors import BadData
from mindhand.core.keys import Key
from mindhand.core.record import fill, measure, older_code, read_records, read_rows, recompute, write_record


def git(root: Path, *words: str) -> None:
    who = ("-c", "user.name=t", "-c", "user.email=t@t", "-c", "commit.gpgsign=false")
    subprocess.run(("git", "-C", str(root), *who, *words), check=True, capture_output=True)


@pytest.fixture
def house(tmp_path) -> Path:
    """A real checkout with one committed source under src/ and one proof."""
    root = tmp_path / "house"
    (root / "src").mkdir(parents=True)
    (root / "proofs").mkdir()
    (root / "src" / "hand.py").write_text("a = 1\n")
    (root / "src" / "other.py").write_text("b = 1\n")
    (root / "proofs" / "fast.py").write_text("c = 1\n")
    git(root.parent, "init", "-q", "house")
    git(root, "add", "-A")
    git(root, "commit", "-q", "-m", "first")
    return root


def rows(n: int = 52, hits: int = 43) -> list[dict]:
    return [{"key": Key("desk", "tile", i), "success": i < hits, "k": 4, "chance": 0.25} for i in range(n)]


def write(house: Path, name: str = "proofs/fast/success", **other):
    given = {
        "rows": rows(),
        "field": "success",
        "kind": "rate",
        "unit": "1",
        "chance": 0.25,
        "sources": [house / "proofs" / "fast.py"],
        "folder": house / "results",
    }
    return write_record(name, **{**given, **other})


def test_a_rate_is_counted_from_its_rows(house):
    made = write(house, command="mindhand prove fast", seconds=12.34)
    assert (made.value, made.n) == (43 / 52, 52)
    assert made.low == pytest.approx(0.7027, abs=1e-4)
    assert made.high == pytest.approx(0.9062, abs=1e-4)
    assert made.command == "mindhand prove fast"
    assert made.seconds == 12.3
    assert len(made.commit) == 12
    assert made.dirty == ()
    assert set(made.sources) == {"proofs/fast.py"}
    assert {"python", "numpy", "torch", "mindhand"} <= set(made.versions)
    assert made.hardware["cores"] >= 1
    assert read_records(house / "results") == {"proofs/fast/success": made}
    assert recompute(made, house / "results") == made
    stored = read_rows(made, house / "results")
    assert stored[0] == {"key": "desk/tile/0/0", "success": True, "k": 4, "chance": 0.25}
    assert made.show() == "82.7 % (70.3 to 90.6, n = 52, chance 25 %)"


def test_chance_may_differ_from_row_to_row(house):
    mixed = [{**r, "chance": 1 / (3 + i % 2)} for i, r in enumerate(rows())]
    assert write(house, rows=mixed, chance="chance").chance == pytest.approx((1 / 3 + 1 / 4) / 2)


def test_one_file_a_writer_sorted_and_rows_stored_once(house):
    write(house, "proofs/fast/success")
    write(house, "proofs/fast/choice")
    write(house, "proofs/oft/success")
    results = house / "results"
    found = sorted(p.relative_to(results).as_posix() for p in results.rglob("*.json"))
    assert found == ["proofs/fast.json", "proofs/oft.json"]
    body = json.loads((results / "proofs" / "fast.json").read_text())
    assert list(body["records"]) == ["proofs/fast/choice", "proofs/fast/success"]
    assert len(list((results / "rows" / "proofs" / "fast").iterdir())) == 1


def test_writing_again_replaces_and_leaves_no_orphan(house):
    first = write(house, "proofs/fast/success")
    write(house, "proofs/fast/choice")
    second = write(house, "proofs/fast/success", rows=rows(hits=10))
    assert read_records(house / "results")["proofs/fast/success"].value == 10 / 52
    folder = house / "results"
    assert (folder / first.rows["path"]).exists()  # choice still needs it
    write(house, "proofs/fast/choice", rows=rows(hits=10))
    assert [p.name for p in (folder / "rows" / "proofs" / "fast").iterdir()] == [Path(second.rows["path"]).name]


def test_the_same_rows_are_the_same_bytes(house):
    one = write(house, folder=house / "runs" / "a")
    two = write(house, folder=house / "runs" / "b", rows=[dict(reversed(r.items())) for r in rows()])
    first, second = ((house / "runs" / x / r.rows["path"]).read_bytes() for x, r in (("a", one), ("b", two)))
    assert first == second
    assert first[4:8] == b"\0\0\0\0"  # no date


# ---- what cannot be written ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"rows": 0.83}, "rows are a float"),
        ({"rows": {"success": 0.83}}, "rows are a dict"),
        ({"rows": []}, "rows are a list"),
        ({"rows": [0.83, 0.9]}, "rows are a list"),
        ({"rows": [{"success": 0.83}]}, "not true or false"),
        ({"rows": [{"success": True}, {}]}, "row 1 .*: 'success' is None"),
        ({"rows": [{"success": "yes"}]}, "'yes'"),
        ({"rows": [{"success": float("nan")}], "kind": "mean"}, "nan"),
        ({"rows": [{"success": True, "extra": float("inf")}]}, "cannot be stored"),
        ({"rows": [{"success": True, "extra": object()}]}, "cannot be stored"),
        ({"rows": [{"key": 1, "success": True}, {"key": 1, "success": True}]}, "rows 0 and 1 are both 1"),
        ({"rows": [{"arm": "on", "success": True}, {"arm": "off", "success": True}]}, "arms"),
        ({"kind": "median"}, "kind 'median'"),
        ({"field": "choice"}, "'choice' is None"),
        ({"chance": "nowhere"}, "nowhere"),
        ({"name": "proofs/fast"}, "record name"),
        ({"name": "proofs/Fast/x"}, "record name"),
        ({"name": "../fast/x"}, "record name"),
        ({"sources": []}, "no sources"),
        ({"sources": ["mindhand.core.nothing"]}, "no source"),
    ],
)
def test_refusals(house, change, why):
    name = change.pop("name", "proofs/fast/success")
    with pytest.raises(BadData, match=why):
        write(house, name, **change)
    assert not (house / "results").exists()


def test_results_refuse_a_changed_tree_and_runs_take_it_as_a_draft(house):
    (house / "src" / "other.py").write_text("b = 2\n")  # not even among the record's own sources
    with pytest.raises(BadData, match=r"src/other\.py"):
        write(house)
    draft = write(house, folder=house / "runs" / "draft")
    assert draft.dirty == ("src/other.py",)
    git(house, "commit", "-aqm", "second")
    assert write(house).dirty == ()


def test_results_refuse_sources_that_git_never_saw(house):
    new = house / "proofs" / "new.py"
    new.write_text("d = 1\n")
    with pytest.raises(BadData, match=r"proofs/new\.py"):
        write(house, sources=[new])
    (house / ".gitignore").write_text("new.py\n")
    git(house, "add", ".gitignore")
    git(house, "commit", "-qm", "ignore")
    with pytest.raises(BadData, match=r"proofs/new\.py"):
        write(house, sources=[new])
    (house / "untracked.txt").write_text("a note elsewhere is no matter\n")
    write(house)


def test_modules_packages_and_names_are_sources(house):
    made = write(house, folder=house / "runs", sources=[intervals, "mindhand.core.keys", house / "proofs"])
    here = "src/mindhand/core"
    assert set(made.sources) == {f"{here}/intervals.py", f"{here}/keys.py", "proofs/fast.py"}
    assert made.sources[f"{here}/keys.py"] == provenance.source_hash(Path(provenance.__file__).with_name("keys.py"))
    assert f"{here}/record.py" in write(house, folder=house / "runs", sources=["mindhand.core"]).sources


def test_without_a_checkout_the_commit_is_unknown(tmp_path):
    """As from an installed package: sources in no checkout."""
    source = tmp_path / "proof.py"
    source.write_text("a = 1\n")
    given = {"field": "success", "kind": "rate", "unit": "1", "chance": None, "sources": [source]}
    made = write_record("a/b/c", rows=rows(), folder=tmp_path / "runs", **given)
    assert made.commit == "unknown"
    assert made.sources == {"proof.py": provenance.source_hash(source)}
    assert recompute(made, tmp_path / "runs") == made
    assert provenance.checkout(tmp_path / "lib" / "site-packages" / "mindhand") is None


def test_large_rows_stay_out_of_results(house):
    rng = np.random.default_rng(0)
    wide = [{**r, "noise": rng.integers(2**62, size=1200).tolist()} for r in rows()]
    made = write(house, rows=wide)
    assert made.rows["path"] is None
    assert not list((house / "results").rglob("*.gz"))
    assert recompute(made, house / "results") == made
    next((house / "runs").rglob("*.gz")).unlink()
    with pytest.raises(BadData, match="not here"):
        recompute(made, house / "results")


# ---- what happens to them afterwards -------------------------------------------------------------------


def test_an_edited_record_differs_from_its_rows(house):
    made = write(house)
    assert recompute(replace(made, value=0.99, low=0.95), house / "results") == made


def test_rows_that_were_edited_or_cut_are_refused(house):
    made = write(house)
    file = house / "results" / made.rows["path"]
    good = file.read_bytes()
    text = gzip.decompress(good)
    file.write_bytes(gzip.compress(text.replace(b'"success": false', b'"success": true', 1)))
    with pytest.raises(BadData, match="not what"):
        recompute(made, house / "results")
    file.write_bytes(good[:100])
    with pytest.raises(BadData, match="damaged"):
        recompute(made, house / "results")


def test_sources_that_change_make_older_code(house):
    made = write(house)
    assert older_code(made, house) == []
    (house / "proofs" / "fast.py").write_bytes(b"c = 1\r\n")
    assert older_code(made, house) == []  # other line ends are no other code
    (house / "proofs" / "fast.py").write_text("c = 2\n")
    assert older_code(made, house) == ["proofs/fast.py"]
    stale = replace(made, sources={**made.sources, "src/mindhand/core/intervals.py": "0" * 12})
    assert "src/mindhand/core/intervals.py" in older_code(stale, house)


def test_a_foreign_file_among_results_is_refused(house):
    write(house)
    one = '{"format": 1, "records": {"a/b/c": {"x": 1}}}'
    for text in ('{"a": 1}', "[]", "{", '{"format": 2, "records": {}}', one):
        (house / "results" / "x.json").write_text(text)
        with pytest.raises(BadData):
            read_records(house / "results")


def test_every_record_of_this_project_is_what_its_rows_give():
    for name, made in read_records().items():
        if made.rows["path"] is None:
            continue
        again = asdict(recompute(made))
        for field in ("value", "low", "high", "n", "trainings"):
            assert again[field] == pytest.approx(asdict(made)[field], rel=1e-9), (name, field)
        assert not made.dirty, name
        assert made.commit != "unknown", name


# ---- kinds ---------------------------------------------------------------------------------------------


def test_several_trainings_widen_a_rate():
    each = [{"training": t, "key": i, "ok": i < hits} for t, hits in enumerate((50, 70, 90)) for i in range(100)]
    found, by = measure(each, "ok", "rate")
    assert by == {"0": 0.5, "1": 0.7, "2": 0.9}
    narrow = intervals.wilson(210, 300)
    assert found.value == pytest.approx(0.7)
    assert found.low < narrow.low - 0.05
    assert found.high > narrow.high + 0.05
    perfect = [{"training": t, "key": i, "ok": True} for t in range(3) for i in range(100)]
    assert measure(perfect, "ok", "rate")[0].low == intervals.wilson(300, 300).low  # never [1, 1]


def test_a_difference_is_taken_item_by_item():
    rng = np.random.default_rng(0)
    both = []
    for training in range(3):
        for i in rng.permutation(200):
            hard = rng.random() < 0.5  # the scene decides most; the method adds a tenth
            both.append({"arm": "off", "training": training, "key": int(i), "ok": bool(not hard)})
            both.append({"arm": "on", "training": training, "key": int(i), "ok": bool(not hard or rng.random() < 0.2)})
    found, by = measure([both[i] for i in rng.permutation(len(both))], "ok", "difference")
    on, off = (np.mean([r["ok"] for r in both if r["arm"] == arm]) for arm in ("on", "off"))
    assert found.value == pytest.approx(on - off)
    assert found.n == 600
    assert len(by) == 3
    unpaired = np.sqrt(on * (1 - on) + off * (1 - off)) / np.sqrt(600) * 1.96 * 2
    assert found.high - found.low < unpaired
    assert found.low > 0
    with pytest.raises(BadData, match="in one arm only"):
        measure(both[1:], "ok", "difference")
    with pytest.raises(BadData, match="arm"):
        measure([{"ok": True, "key": 1}], "ok", "difference")
    with pytest.raises(BadData, match="arm"):
        measure([{"ok": True, "arm": "on"}], "ok", "difference")


def test_scenes_that_every_training_met_are_matched_by_key():
    """Shuffled rows give the same interval, and other keys a narrower one: they are more scenes."""
    rng = np.random.default_rng(0)
    hard = rng.random(80) < 0.4
    met = [{"training": t, "key": i, "ok": bool(hard[i])} for t in range(4) for i in range(80)]
    same, _ = measure(met, "ok", "mean")
    shuffled, _ = measure([met[i] for i in rng.permutation(len(met))], "ok", "mean")
    others, _ = measure([{**r, "key": f"{r['training']}-{r['key']}"} for r in met], "ok", "mean")
    assert shuffled == same
    assert others.value == same.value
    assert others.high - others.low < 0.7 * (same.high - same.low)


def test_a_ratio_is_the_median_of_ratios():
    timed = [{"slow": 4.0 * (1 + 0.01 * i), "fast": 1.0 * (1 + 0.01 * i)} for i in range(9)] + [
        {"slow": 4.0, "fast": 9.0}  # one hiccup
    ]
    found, _ = measure(timed, "slow/fast", "ratio")
    assert found.value == pytest.approx(4.0)
    assert found.low == pytest.approx(4.0)
    for bad in ({"slow": 1.0, "fast": 0.0}, {"slow": -1.0, "fast": 1.0}, {"slow": 1.0}):
        with pytest.raises(BadData):
            measure([bad], "slow/fast", "ratio")


# ---- documents -----------------------------------------------------------------------------------------


def test_a_quotient_is_of_means_over_the_same_items(house):
    rows = [
        {"key": f"t/{i}", "training": str(n), "a": float(i % 2), "b": 0.5, "c": 2.0} for n in range(3) for i in range(8)
    ]
    made = write(house, "chatvla2/b7/maths/k-dev/te", rows=rows, field="a/b*c", kind="quotient", chance=None)
    assert made.value == pytest.approx(0.5) and made.writer == "chatvla2/b7/maths/k-dev"
    assert (house / "results" / "chatvla2" / "b7" / "maths" / "k-dev.json").exists()
    assert recompute(made, house / "results") == made and "×" in made.show()
    with pytest.raises(BadData, match="the same keys"):
        measure(rows[1:], "a/b", "quotient")


def test_placeholders_become_numbers_and_unknown_names_are_refused(house):
    made = write(house)
    speed = write(
        house, "bench/act/fast", rows=[{"a": 3.0, "b": 1.0}] * 3, field="a/b", kind="ratio", unit="x", chance=None
    )  # fmt: skip
    known = {r.name: replace(r, sources={}) for r in (made, speed)}
    text = fill("It won {{record:proofs/fast/success}}, {{ record: bench/act/fast }} faster.", known)
    assert text == "It won 82.7 % (70.3 to 90.6, n = 52, chance 25 %), 3× (3 to 3, n = 3) faster."
    assert "*older code*" in fill("{{record:proofs/fast/success}}", {made.name: made})
    for bad in ("{{record:proofs/fast/sucess}}", "{{record:}}"):
        with pytest.raises(BadData, match="no record"):
            fill(bad, known)


@pytest.mark.parametrize(
    ("kind", "unit", "value", "shown"),
    [
        ("difference", "1", 0.123, "12.3 points (12.3 to 12.3, n = 5)"),
        ("difference", "mm", 1.26, "1.26 mm (1.26 to 1.26, n = 5)"),
        ("mean", "tokens/s", 12345.6, "12346 tokens/s (12346 to 12346, n = 5)"),
        ("mean", "m", 0.00123, "0.00123 m (0.00123 to 0.00123, n = 5)"),
    ],
)
def test_numbers_are_printed_in_their_units(house, kind, unit, value, shown):
    made = write(house)
    assert replace(made, kind=kind, unit=unit, value=value, low=value, high=value, n=5, chance=None).show() == shown


def test_a_command_names_no_machine(house, monkeypatch):
    monkeypatch.setattr(provenance.sys, "argv", [str(house / "proofs" / "fast.py"), "--out", "/nowhere/here/x y"])
    assert write(house).command == "proofs/fast.py --out 'x y'"


def test_two_writers_at_once_lose_nothing(house):
    code = (
        "import sys; from mindhand.core.record import write_record; from mindhand.core import intervals\n"
        "for i in range(6):\n"
        "    write_record(f'a/b/{sys.argv[2]}{i}', rows=[{'ok': True, 'i': i, 'w': sys.argv[2]}], field='ok',"
        " kind='rate', unit='1', chance=None, sources=[intervals], folder=sys.argv[1])\n"
    )
    folder = str(house / "runs" / "both")
    both = [subprocess.Popen([provenance.sys.executable, "-c", code, folder, who]) for who in "xy"]
    assert [p.wait() for p in both] == [0, 0]
    found = read_records(folder)
    assert len(found) == 12
    assert all(recompute(made, folder) == made for made in found.values())
    assert record.FORMAT == 1
