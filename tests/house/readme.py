"""The README's tables, from records: `python -m tests.house.readme` writes each between its marks."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from mindhand.core.record import OLDER, Record, fill, read_records

README = Path(__file__).resolve().parents[2] / "README.md"
MARKS = re.compile(r"<!-- (\w+) -->\n.*?<!-- /\1 -->", re.DOTALL)
ARMS = (("it reasons", ""), ("the same, without a word", "_without_reasoning"), ("words, and a blind hand", "_blind"))
SPLITS = (("sums of the demonstrations", "in_domain"), ("known to the VLM alone", "k_dev"), ("known to nobody", "x"))
FAMILIES = (("sums", "maths"), ("toys", "placing"))
CLASSES = (("as in the demonstrations", "r"), ("known to the VLM alone", "k-dev"), ("known to nobody", "x"))
HEADS = "the right thing first | task solved |"


def shipped(records: Mapping[str, Record]) -> list[str]:
    """A line a family and class of what ships."""
    lines = []
    for family, of in FAMILIES:
        for split, name in CLASSES:
            names = [f"chatvla2/shipped/{of}/{name}/{field}" for field in ("choice", "success")]
            if all(n in records for n in names):
                lines.append(f"| {family}, {split} | " + " | ".join(f"{{{{record:{n}}}}}" for n in names) + " |")
    if (scans := "chatvla2/shipped/scanned_digits_success") in records:
        lines.append(
            f"| sums, known to the VLM alone, in scanned digits that no training shows | | {{{{record:{scans}}}}} |"
        )
    if (time := "demo/shipped/seconds") in records:
        lines += ["", f"The demo takes {{{{record:{time}}}}} on two cores. One training."]
    return [f"| asked | {HEADS}", "|---|---|---|", *lines] if lines else []


def results(records: Mapping[str, Record]) -> list[str]:
    """A line a policy from scratch and kind of equation."""
    lines = []
    for arm, suffix in ARMS:
        for split, name in SPLITS:
            if f"skeleton/success/{name}{suffix}" in records:
                cells = [f"{{{{record:skeleton/{field}/{name}{suffix}}}}}" for field in ("choice", "success")]
                lines.append(f"| {arm} | {split} | " + " | ".join(cells) + " |")
    time = "From nothing in {{record:skeleton/demo/seconds}} on two cores; one training of each policy."
    return [f"| policy | equations | {HEADS}", "|---|---|---|---|", *lines, "", time] if lines else []


TABLES = {"shipped": shipped, "results": results}


def filled(text: str) -> str:
    """The README with every table as the records give it, with intervals and chance; nothing where there are none."""
    records = read_records()

    def table(found: re.Match[str]) -> str:
        name = found[1]
        inside = fill("\n".join(TABLES[name](records)), records)
        if OLDER in inside:  # said once
            inside = inside.replace(OLDER, "") + " Measured with older code than this."
        return "\n".join([f"<!-- {name} -->", *([inside] if inside else []), f"<!-- /{name} -->"])

    return MARKS.sub(table, text)


if __name__ == "__main__":
    README.write_text(filled(README.read_text()))
