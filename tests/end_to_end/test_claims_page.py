"""The page of claims says what a choice of class R is worth, by records."""

from __future__ import annotations

from dataclasses import replace

from mindhand.core.record import read_records
from mindhand.recipes.claims_page import UNREAD, table, unread


def test_a_choice_on_r_is_said_to_be_no_evidence():
    made = next(iter(read_records().values()))
    values = dict(zip(UNREAD, (0.602, 0.998)))
    records = {n: replace(made, name=n, kind="rate", unit="1", value=v, chance=0.27) for n, v in values.items()}
    said = unread(records)
    assert "no evidence of reading" in said and "60.2 %" in said and "99.8 %" in said and said.count("chance 27") == 2
    assert said.strip() in table(records) and all(f"`{name}`" in said for name in UNREAD)
    assert unread(dict(list(records.items())[:1])) == "" and table({}).endswith("|\n<!-- /claims -->")
