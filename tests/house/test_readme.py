"""What the README shows is what the records say, and its lines of code run."""

import re

from .readme import MARKS, README, table


def test_the_table_is_what_the_records_give():
    (found,) = MARKS.findall(README.read_text())
    assert found == table(), "run: python -m tests.house.readme"


def test_the_five_lines_compile_and_import():
    (code,) = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    compile(code, "README", "exec")
    exec("\n".join(line for line in code.splitlines() if line.startswith("from ")), {})
