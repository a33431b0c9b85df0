"""What the README shows is what the records say, and its lines of code run."""

import re
from dataclasses import replace
from typing import Any

from mindhand.core.record import read_records
from mindhand.evaluate.claims import CLAIMS
from mindhand.recipes.claims_page import MARKS as CLAIM_MARKS
from mindhand.recipes.claims_page import PAGE, filled
from mindhand.recipes.claims_page import table as claims_table

from .readme import MARKS, README, TABLES
from .readme import filled as filled_readme


def test_the_tables_are_what_the_records_give():
    text = README.read_text()
    assert {name for name in MARKS.findall(text)} == set(TABLES)
    assert text == filled_readme(text), "run: python -m tests.house.readme"


def test_the_five_lines_run(tmp_path, monkeypatch):
    """As they stand, in an empty folder, and with what their comments say."""
    (code,) = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(compile(code, "README", "exec"), names)
    with names["world"]:
        chunk = names["chunk"]
        shape = re.search(r"chunk\.actions \(([\d,]+)\)", code)
        assert shape is not None and chunk.actions.shape == tuple(map(int, shape[1].split(",")))
        assert len(chunk.reasoning.texts) == 1 and names["state"]["query"].tolist() == [1]


def test_the_page_of_claims_is_what_the_records_give():
    text = PAGE.read_text()
    assert len(CLAIM_MARKS.findall(text)) == 1
    assert text == filled(text, read_records()), "run: python -m mindhand.recipes.claims_page"


def test_a_claim_shows_its_verdict_and_the_records_behind_it():
    made = next(iter(read_records().values()))
    names = ("chatvla2/claims/verdicts/c5", "chatvla2/b7/maths/k-dev/success", "chatvla2/b1/maths/k-dev/success")
    records = {n: replace(made, name=n, kind="rate", unit="1", value=v) for n, v in zip(names, (-1.0, 0.8, 0.2))}
    lines = [line for line in claims_table(records).splitlines() if line.startswith("| C")]
    assert len(lines) == len(CLAIMS)
    (judged,) = (line for line in lines if "refuted**" in line)
    assert judged.startswith("| C5 ") and "80.0 %" in judged and "20.0 %" in judged and "not measured" not in judged
    assert sum("not measured yet" in line for line in lines) == len(CLAIMS) - 1
