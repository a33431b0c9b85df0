"""Method cards: what a card may say, and how its fidelity follows from records alone."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest

from mindhand.core import intervals
from mindhand.core.card import Claim, MethodCard, fidelity
from mindhand.core.errors import BadData
from mindhand.core.record import read_records, write_record

GOOD = {
    "name": "fast",
    "title": "FAST",
    "arxiv": "2501.09747",
    "area": "act",
    "seams": ("Codec", "codec", "objectives"),
    "claim": Claim("Compressed tokens learn faster.", "success", "higher"),
    "needs": frozenset({"backbone"}),
    "provides": frozenset(),
}


def test_a_good_card():
    card = MethodCard(**GOOD)
    assert card.name == "fast"
    assert MethodCard(**{**GOOD, "arxiv": ""}).arxiv == ""


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", "Fast"),
        ("name", "fast.py"),
        ("name", ""),
        ("title", " "),
        ("arxiv", "arXiv:2501.09747"),
        ("arxiv", "2501.09747v2"),
        ("area", "actions"),
        ("seams", ()),
        ("seams", "codec"),
        ("seams", ("codex",)),
        ("claim", "it is better"),
        ("claim", Claim("", "success")),
        ("claim", Claim("x", "success/rate")),
        ("claim", Claim("x", "success", "better")),
        ("needs", {"backbone"}),
        ("provides", ("words",)),
    ],
)
def test_a_bad_card_is_refused(field, value):
    with pytest.raises(BadData, match="card '"):
        MethodCard(**{**GOOD, field: value})


def test_fidelity_is_not_a_field():
    assert not {"fidelity", "level", "levels"} & {f.name for f in fields(MethodCard)}


def paired(gains: list[int], items: int = 60) -> list[dict]:
    """Trainings whose method wins `gain` more items of `items`, from a half."""
    rows = []
    for training, gain in enumerate(gains):
        for i in range(items):
            rows.append({"training": training, "key": i, "arm": "off", "ok": i < 20})
            rows.append({"training": training, "key": i, "arm": "on", "ok": i < 20 + gain})
    return rows


def test_levels_follow_the_records(tmp_path):
    card = MethodCard(**GOOD)

    def put(name, rows, field="ok", kind="rate"):
        given = {"unit": "1", "chance": None, "sources": [intervals], "folder": tmp_path / "runs"}
        write_record(name, rows=rows, field=field, kind=kind, **given)

    def levels(c=card):
        return set(fidelity(c, read_records(tmp_path / "runs")))

    assert levels() == set()
    put("checks/fast/unit", [{"key": i, "ok": i != 2} for i in range(5)])
    assert levels() == set()
    put("checks/fast/unit", [{"key": i, "ok": True} for i in range(5)])
    assert levels() == {"mechanism"}
    put("checks/fast/parity", [{"key": "rows", "ok": True}])
    assert levels() == {"mechanism", "parity"}
    put("proofs/fast/success", paired([20, 18, 22]), kind="difference")
    assert levels() == {"mechanism", "parity", "effect"}
    assert fidelity(card, read_records(tmp_path / "runs"))["effect"].value == pytest.approx(1 / 3)
    # the other direction, another metric, another method: no effect
    assert "effect" not in levels(replace(card, claim=Claim("x", "success", "lower")))
    assert "effect" not in levels(replace(card, claim=Claim("x", "choice")))
    assert levels(replace(card, name="slow")) == set()
    # two trainings, or trainings that disagree: no effect
    put("proofs/fast/success", paired([20, 22]), kind="difference")
    assert "effect" not in levels()
    put("proofs/fast/success", paired([30, -15, 12]), kind="difference")
    assert "effect" not in levels()
    put("proofs/fast/success", paired([-15, -12, -16]), kind="difference")
    assert "effect" not in levels()
    assert "effect" in levels(replace(card, claim=Claim("x", "success", "lower")))


def test_ratios_are_measured_against_one_and_rates_against_chance(tmp_path):
    given = {"unit": "x", "sources": [intervals], "folder": tmp_path / "runs"}
    faster = write_record(
        "proofs/cache/speed", rows=[{"a": 2.0, "b": 1.0}] * 5, field="a/b", kind="ratio", chance=None, **given
    )
    assert Claim("x", "speed").holds(faster)
    assert not Claim("x", "speed", "lower").holds(faster)
    rows = [{"key": i, "ok": i < 40} for i in range(100)]
    over = write_record("proofs/read/choice", rows=rows, field="ok", kind="rate", chance=0.25, **given)
    assert Claim("x", "choice").holds(over)
    assert not Claim("x", "choice").holds(replace(over, chance=0.35))
    assert not Claim("x", "choice").holds(replace(over, chance=None))
