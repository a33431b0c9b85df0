"""nano as it is shipped: it loads, it is small, and it answers what it was examined in."""

from __future__ import annotations

import json

import pytest

from mindhand.data.synthetic.gates import take_gate
from mindhand.data.synthetic.toy_picture import tabletop
from mindhand.model.shipped import WEIGHTS, shipped
from mindhand.model.store import load_vla
from mindhand.worlds.declared import scene_hash

MOST = 16 * 2**20  # bytes of all weights that are shipped
ITEMS = 16  # of a gate; a thousand are in the records


@pytest.fixture(scope="module")
def nano():
    return load_vla(shipped()).eval()


@pytest.mark.parametrize("gate", ["equation_reading", "desk_reading", "naming", "colour", "exist_negative", "pointing"])
def test_it_answers(nano, gate):
    """Of 16 items as many as a model just below its gate's bar has in one of a hundred thousand tries, and more."""
    rows = take_gate(nano.answer, gate, ITEMS, tabletop)
    assert sum(row["right"] for row in rows) >= ITEMS - 3


def test_it_is_small_and_says_what_it_was_taught():
    assert sum(file.stat().st_size for file in WEIGHTS.rglob("*") if file.is_file()) <= MOST
    plan = json.loads((shipped().parent / "plan.json").read_text())
    assert plan["scene"] == scene_hash()  # what the desk asks now is what it was taught
    assert (shipped().parent / "README.md").read_text().startswith("# nano")
