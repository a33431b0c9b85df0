"""The README's table, from records: `python -m tests.house.readme` writes it between its marks."""

from __future__ import annotations

import re
from pathlib import Path

from mindhand.core.record import OLDER, fill, read_records

README = Path(__file__).resolve().parents[2] / "README.md"
MARKS = re.compile(r"<!-- results -->\n.*?<!-- /results -->", re.DOTALL)
ARMS = (("it reasons", ""), ("the same, without a word", "_without_reasoning"), ("words, and a blind hand", "_blind"))
SPLITS = (("sums of the demonstrations", "in_domain"), ("known to the VLM alone", "k_dev"), ("known to nobody", "x"))


def table() -> str:
    """A line a policy and kind of equation, with intervals and chance; nothing where there are no records yet."""
    records = read_records()
    lines = ["| policy | equations | the right tile first | task solved |", "|---|---|---|---|"]
    for arm, suffix in ARMS:
        for split, name in SPLITS:
            if f"skeleton/success/{name}{suffix}" in records:
                cells = [f"{{{{record:skeleton/{field}/{name}{suffix}}}}}" for field in ("choice", "success")]
                lines.append(f"| {arm} | {split} | " + " | ".join(cells) + " |")
    if len(lines) == 2:
        return "<!-- results -->\n<!-- /results -->"
    time = "From nothing in {{record:skeleton/demo/seconds}} on two cores; one training of each policy."
    text = fill("\n".join([*lines, "", time]), records)
    if OLDER in text:  # said once
        text = text.replace(OLDER, "") + " Measured with older code than this."
    return f"<!-- results -->\n{text}\n<!-- /results -->"


if __name__ == "__main__":
    README.write_text(MARKS.sub(lambda _: table(), README.read_text()))
