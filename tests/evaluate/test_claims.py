"""Claims: the truth is found, too little is undecided, what is not there is missing, and nothing declared can move."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from mindhand.core.errors import BadData
from mindhand.core.intervals import Interval, hierarchical
from mindhand.core.keys import Keys
from mindhand.evaluate import claims
from mindhand.evaluate.claim_evidence import BASE, CELLS, Evidence, Training
from mindhand.evaluate.claim_kinds import Range, Test, above, at_least, at_most, below, together, within
from mindhand.evaluate.claim_measures import MEASURES, Estimate, Quantity, estimate
from mindhand.evaluate.claims import CLAIMS, fingerprint, for_report, judge, rich_table
from mindhand.evaluate.page import table
from mindhand.evaluate.scorecard import score as scorecard

from .claims_grid import CLAIMED, OPPOSITE, USUAL, grid, training

# Claims, bounds and rule were declared before the first result. Whoever changes them changes this number, and says
# why in docs/decisions.md.
FROZEN = "b85da97be7afe022b4f39268caea2306ccc43cfb08cb5dd2d2bdaa212004da68"
IDS = [c.id for c in CLAIMS]
BOUNDLESS = "C14"  # reported only
BY = {c.id: c for c in CLAIMS}


@pytest.fixture(scope="module")
def claimed() -> Evidence:
    return grid(CLAIMED)


def verdicts(evidence: Evidence) -> dict[str, str]:
    return {f.id: f.verdict for f in judge(evidence)}


def test_what_was_declared_is_what_was_declared():
    assert fingerprint() == FROZEN, "bounds of claims are frozen: a change needs an entry in docs/decisions.md"
    assert [f"C{i}" for i in range(1, 15)] == IDS
    for claim in CLAIMS:
        asked = (*claim.needs, *claim.beside)
        assert len({str(q) for q in asked}) == len(set(asked))  # numbers are kept by their words
        assert all(q.measure in MEASURES and set(q.cells) <= set(CELLS) for q in asked)


def test_a_bound_that_moves_is_seen(monkeypatch):
    easier = replace(BY["C5"], tests=(replace(BY["C5"].tests[0], reproduces=at_least(0.29)), *BY["C5"].tests[1:]))
    monkeypatch.setattr(claims, "CLAIMS", tuple(easier if c.id == "C5" else c for c in CLAIMS))
    assert fingerprint() != FROZEN


def test_the_claimed_effect_is_found(claimed):
    assert verdicts(claimed) == {i: "undecided" if i == BOUNDLESS else "reproduced" for i in IDS}


def test_the_opposite_is_refuted():
    assert verdicts(grid(OPPOSITE, n=300)) == {i: "undecided" if i == BOUNDLESS else "refuted" for i in IDS}


def test_two_trainings_or_few_rows_decide_nothing(claimed):
    two = grid(CLAIMED, names=("0", "1"))
    assert set(verdicts(two).values()) == {"undecided"}
    assert set(verdicts(grid(OPPOSITE, n=90, items=30)).values()) == {"undecided"}
    found = BY["C5"].find(two)
    assert "2 of 3 trainings" in found.why and found.numbers["K success of B7 less B1"].value > 0.3


def test_what_lies_between_is_undecided():
    between = {**CLAIMED, "B7": {"k": 0.42}, "B1": {"written": 0.7}, "B7-cached": {"k": 0.35, "ms": 50}}
    found = verdicts(grid(between))
    assert all(found[i] == "undecided" for i in ("C1", "C5", "C13"))


def test_trainings_that_differ_much_decide_nothing():
    """A mean difference of 20 points, from 75 to -15: the next training may show anything."""
    cells = {c: {t: training({}, c, t) for t in "012"} for c in ("B7", "B8a")}
    for name, k in zip("012", (0.95, 0.2, 0.35)):
        cells["B7"][name] = training({"k": k}, "B7", name)
    found = BY["C6"].find(Evidence(cells))
    at = found.numbers["K success of B7 less B8a"]
    assert found.verdict == "undecided" and at.value > 0.15 and at.low < 0 < at.high


@pytest.mark.parametrize("claim", CLAIMS, ids=IDS)
def test_a_cell_without_rows_is_missing(claim, claimed):
    for cell in claim.cells:
        for gone in ({}, {cell: {}}, {cell: {"0": Training()}}):
            some = {c: claimed.cells[c] for c in claim.cells if c != cell} | gone
            found = claim.find(Evidence(some))
            assert found.verdict == "missing" and f"no rows of {cell}" in found.why
    assert claim.find(Evidence({})).numbers == {}


def test_rows_of_another_split_or_without_the_column_are_missing(claimed):
    assert "maths_matching/K-test of B7" in BY["C6"].find(claimed, "K-test").why
    silent = {c: dict(of) for c, of in claimed.cells.items()}
    for name, of in silent["S2-robot-only"].items():
        rows = [{k: x for k, x in row.items() if k != "ocr"} for row in of.episodes]
        silent["S2-robot-only"][name] = replace(of, episodes=rows)
    assert "no 'ocr'" in BY["C8"].find(Evidence(silent)).why
    with pytest.raises(BadData, match="split"):
        judge(claimed, "R")


def test_order_does_not_matter(claimed):
    turned = {c: dict(reversed(of.items())) for c, of in reversed(claimed.cells.items())}
    assert judge(Evidence(turned)) == judge(claimed)


def test_trainings_that_one_cell_lacks_are_left_out_and_said(claimed):
    cells = {c: dict(claimed.cells[c]) for c in ("B7", "B8a")}
    cells["B7"]["3"] = training(CLAIMED["B7"], "B7", "3")
    found = BY["C6"].find(Evidence(cells))
    assert found.verdict == "reproduced" and "without training 3" in found.why
    cells["B8a"] = {f"other {t}": x for t, x in cells["B8a"].items()}
    assert "no training that both" in BY["C6"].find(Evidence(cells)).why


def broken(**change):
    """Two cells, of which one training's episodes are changed."""
    cells = {c: {t: training({}, c, t, n=5, items=2) for t in "01"} for c in ("B7", "B8a")}
    cells["B8a"]["1"] = replace(cells["B8a"]["1"], **{k: f(getattr(cells["B8a"]["1"], k)) for k, f in change.items()})
    return cells


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"episodes": lambda rows: rows[:-1]}, "same keys"),
        ({"episodes": lambda rows: [rows[1], rows[0], *rows[2:]]}, "same order"),
        ({"swapped": lambda rows: rows[::-1]}, "same order"),
        ({"scorecard": lambda rows: rows[1:]}, "same keys"),
        ({"episodes": lambda rows: [*rows, rows[0]]}, "twice"),
        ({"episodes": lambda rows: [{**rows[0], "key": "tests-2/a/0/0"}, *rows[1:]]}, "one protocol"),
        ({"scorecard": lambda rows: [{**r, "key": r["key"].replace("card-1", "card-2")} for r in rows]}, "one version"),
        ({"scorecard": lambda rows: [{**r, "items": "0123456789ab"} for r in rows]}, "of 'card-1 0123456789ab'"),
        ({"latency": lambda rows: [{**r, "device": "a gpu"} for r in rows]}, "one device"),
        ({"latency": lambda rows: [{**r, "ms": 0} for r in rows]}, "0 ms"),
        ({"episodes": lambda rows: [{k: x for k, x in r.items() if k != "key"} for r in rows]}, "without .'key'"),
    ],
)
def test_what_cannot_be_compared_is_refused(change, says):
    with pytest.raises(BadData, match=says):
        Evidence(broken(**change))


def test_unknown_cells_two_bases_and_odd_values_are_refused(claimed):
    with pytest.raises(BadData, match="RF_latter"):
        Evidence({"RF_latter": {}})
    with pytest.raises(BadData, match="base"):
        Evidence({BASE: {"0": Training(), "1": Training()}})
    for bad in (None, 5, "yes", float("nan")):
        odd = broken(episodes=lambda rows, bad=bad: [{**r, "success": bad} for r in rows])
        with pytest.raises(BadData, match="success"):
            BY["C6"].find(Evidence(odd))
    ignorant = grid({**CLAIMED, BASE: {"written": 0.02, "likely": 0.02}})
    with pytest.raises(BadData, match="every part"):
        BY["C3"].find(ignorant)


def null(seed: int, cells: tuple[str, ...], n: int = 120) -> Evidence:
    """Cells of one truth, in trainings that differ by 3 points."""
    keys = Keys.seeded(1, "null", seed)
    p = 0.5 + 0.03 * keys.fold("trainings").normal(len(cells), 3)[0]
    right = keys.fold("items").uniform(len(cells), 3, n)[0] < p[..., None]
    tasks = ("maths_matching/K-dev", "spatial_placing/K-dev")

    def rows(i: int, t: int) -> list[dict]:
        return [
            {"key": f"tests-1/{task}/{j}/0", "task": task, "success": x, "ocr": 4 * x}
            for task in tasks
            for j, x in enumerate(right[i, t].tolist())
        ]

    return Evidence({c: {str(t): Training(rows(i, t)) for t in range(3)} for i, c in enumerate(cells)})


def test_without_an_effect_reproduced_is_rare():
    """An order is "reproduced" in about 1 of 40; what asks for a difference of some size, never."""
    rounds, order = 200, replace(BY["C6"], beside=())
    found = [order.find(null(seed, ("B7", "B8a"))).verdict for seed in range(rounds)]
    assert found.count("reproduced") <= 0.05 * rounds and found.count("refuted") <= 0.05 * rounds
    for seed in range(20):
        evidence = null(seed, ("B1", "B2", "B3", "B7"))
        assert {BY[c].find(evidence).verdict for c in ("C5", "C12")} <= {"refuted", "undecided"}


def test_a_difference_has_the_interval_of_the_hierarchical_bootstrap(claimed):
    found = estimate(claimed, Quantity("K success", "B7", "B8a"), "K-dev")
    tables = [
        np.array([[r["success"] for r in of.episodes if r["task"] == "maths_matching/K-dev"] for of in cell.values()])
        for cell in (claimed.cells["B7"], claimed.cells["B8a"])
    ]
    wanted = hierarchical(list(tables[0].astype(float) - tables[1]), same_items=True)
    got = found.interval
    assert got.value == pytest.approx(wanted.value) and got.n == wanted.n == 450
    assert abs(got.low - wanted.low) < 0.012 and abs(got.high - wanted.high) < 0.012
    assert found.trainings == ("0", "1", "2") and found.items == 150


def test_retention_is_the_share_of_what_the_base_knew_by_part(claimed):
    """By hand; by likelihood it is the scorecard's own."""
    base, tuned = scorecard(claimed.cells[BASE]["0"].scorecard), claimed.cells["B3"]
    likely = [np.mean(list(scorecard(of.scorecard).retention(base).values())) for of in tuned.values()]
    assert estimate(claimed, Quantity("R by likelihood", "B3"), "").interval.value == pytest.approx(np.mean(likely))
    guess = {"ocr": 0.0, "maths": 0.0, "existence": 0.5}  # only yes and no can be guessed in writing
    each = np.array([
        [max(0, scorecard(of.scorecard).written[p] - g) / (base.written[p] - g) for p, g in guess.items()]
        for of in tuned.values()
    ])  # fmt: skip
    values = {m: estimate(claimed, Quantity(m, "B3"), "").interval.value for m in ("R", "R worst part", "R gap")}
    assert values["R"] == pytest.approx(each.mean())
    assert values["R worst part"] == pytest.approx(each.min(1).mean())
    assert values["R gap"] == pytest.approx(np.mean(likely) - each.mean())
    assert estimate(claimed, Quantity("R", BASE), "").interval == Interval(1.0, 1.0, 1.0, 180, "hierarchical")


def test_a_part_that_the_base_does_not_know_is_left_out(claimed):
    cells = {c: dict(claimed.cells[c]) for c in (BASE, "B3")}
    rows = [{**r, "likely": False} if r["part"] == "maths" else r for r in cells[BASE]["0"].scorecard]
    cells[BASE]["0"] = Training(scorecard=rows)
    less = {
        c: {t: Training(scorecard=[r for r in of.scorecard if r["part"] != "maths"]) for t, of in x.items()}
        for c, x in cells.items()
    }
    for measure in ("R", "R by likelihood"):
        one, other = (estimate(Evidence(x), Quantity(measure, "B3"), "").interval for x in (cells, less))
        assert one.value == pytest.approx(other.value)


def test_whoever_takes_no_tile_has_not_followed_and_was_not_inconsistent(claimed):
    of = claimed.cells["RF-film"]["0"]
    ours = [r for r in of.episodes if r["task"] == "maths_matching/K-dev"]
    taken = [{**r, "rac": None if i % 2 else True} for i, r in enumerate(ours)]
    evidence = Evidence({"RF-film": {"0": Training(taken, taken)}})
    for measure, value in (("K RAC", 1.0), ("K CFR", 0.5)):
        assert estimate(evidence, Quantity(measure, "RF-film"), "K-dev").interval.value == value


def test_time_is_a_ratio_of_means(claimed):
    ms = {c: np.mean([[r["ms"] for r in of.latency] for of in claimed.cells[c].values()], 1) for c in CLAIMED}
    found = estimate(claimed, Quantity("ms a chunk", "B7", "B7-cached", ratio=True), "").interval
    assert found.value == pytest.approx(np.mean(ms["B7"] / ms["B7-cached"]))
    assert found.low < found.value < found.high
    share = estimate(claimed, Quantity("share of reasoning", "B7"), "").interval
    assert share.value == pytest.approx(USUAL["share"])


Q = Quantity("K success", "B7", "B3")
BOUND = Test(Q, at_least(0.3), below(0.15))
ORDER = Test(Q, above(0), at_most(0))
EQUAL = Test(Q, within(0.05), below(-0.1), whole=True)
ONLY = Test(Q, at_least(0.9))
SHARE = Test(Q, Range(0.6, 0.85))


@pytest.mark.parametrize(
    ("test", "value", "low", "high", "verdict"),
    [
        (BOUND, 0.30, 0.16, 0.44, "reproduced"),
        (BOUND, 0.30, 0.15, 0.45, "undecided"),  # a bound counts as reached
        (BOUND, 0.29, 0.25, 0.33, "undecided"),
        (BOUND, 0.14, 0.00, 0.29, "refuted"),
        (BOUND, 0.14, 0.00, 0.30, "undecided"),
        (BOUND, 0.15, 0.10, 0.20, "undecided"),
        (ORDER, 0.10, 0.01, 0.20, "reproduced"),
        (ORDER, 0.10, 0.00, 0.20, "undecided"),
        (ORDER, 0.00, 0.00, 0.00, "undecided"),  # none better, in every item: that is no proof of none
        (ORDER, -0.10, -0.20, -0.01, "refuted"),
        (EQUAL, 0.00, -0.04, 0.04, "reproduced"),
        (EQUAL, 0.00, -0.06, 0.04, "undecided"),  # not to be told apart is not equal
        (EQUAL, -0.15, -0.20, -0.06, "refuted"),
        (EQUAL, -0.15, -0.30, -0.04, "undecided"),
        (EQUAL, 0.20, 0.15, 0.25, "undecided"),
        (ONLY, 0.95, 0.90, 0.99, "reproduced"),
        (ONLY, 0.95, 0.89, 0.99, "undecided"),
        (ONLY, 0.10, 0.05, 0.15, "undecided"),  # nothing was declared to refute it
        (SHARE, 0.70, 0.60, 0.85, "reproduced"),
        (SHARE, 0.70, 0.60, 0.86, "undecided"),
    ],
)
def test_the_rule(test, value, low, high, verdict):
    at = Interval(value, low, high, 300, "")
    assert test.verdict(Estimate(at, ("0", "1", "2"), 100)) == verdict
    assert test.verdict(Estimate(at, ("0", "1"), 100)) == "undecided"
    assert test.verdict(Estimate(at, ("0", "1", "2"), 99)) == "undecided"


def test_one_refuted_test_refutes_and_all_must_be_reproduced():
    assert together(["reproduced", "refuted", "undecided"]) == "refuted"
    assert together(["reproduced", "undecided"]) == together([]) == "undecided"
    assert together(["reproduced", "reproduced"]) == "reproduced"


def test_both_tables_show_every_claim_with_its_numbers(claimed):
    found = judge(claimed)
    out = io.StringIO()
    Console(file=out, width=200).print(rich_table(found))
    heading, columns, rows = for_report(found)
    html = table(heading, columns, rows)
    for text in (out.getvalue(), html):
        assert all(f"{i} " in text for i in IDS) and "reproduced" in text and "(" in text
    assert "&gt;= 0.1" in html and "K choice of B7" in html and len(rows) == 14
    assert "reported, not judged" in html
    empty = judge(Evidence({}))
    assert {f.verdict for f in empty} == {"missing"}
    assert "no rows of B8a" in table("", *for_report(empty)[1:])
    Console(file=out, width=200).print(rich_table(empty))
    assert "no rows of B8a" in out.getvalue()
