"""The unit checks that the methods' specifications ask for: found in their tests, run, and recorded.

    mindhand bench checks        from a clean checkout

A check is numbered as its specification does, 1, 2, 3 or a, b, c. Its tests, one or several, are named
test_<number>_...; their docstrings, which say what is checked, begin with "(<number>)", or with none. Only those of
test_a_... must, since "a" is also a word, and a test that a view is cut off is no check.
"""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from mindhand.core import provenance
from mindhand.core.errors import BadData
from mindhand.core.files import write_atomic
from mindhand.core.record import Record, write_record

NUMBER = r"[1-9][0-9]?|[a-z]"
NAMED, SAID = re.compile(rf"test_({NUMBER})_"), re.compile(rf"\(({NUMBER})\)\s+")
DONE = (0, 1)  # pytest's: all passed, some failed
NEVER: Mapping[str, Any] = {"passed": 0, "failed": 0, "skipped": []}


@dataclass(frozen=True)
class Check:
    """One of a specification: its number, and its tests by name with what each says of itself."""

    number: str
    tests: Mapping[str, str]


def file_of(root: Path, name: str) -> Path:
    """Where a method's tests are in a checkout."""
    return root / "tests" / "methods" / f"test_{name}.py"


def numbered(file: Path) -> tuple[Check, ...]:
    """The checks of a file of tests, in their order. BadData where a test's docstring has another number than its name,
    where an "a" may be a word, where a number is left out, or where there is none at all."""
    if not file.exists():
        raise BadData(f"no tests {file.name}", "the method's unit checks in tests/methods", "see docs/add-a-method.md")
    found: dict[str, dict[str, str]] = {}
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.FunctionDef) or not node.name.startswith("test_"):
            continue
        text = " ".join((ast.get_docstring(node) or "").split())
        named, said = (m[1] if m else None for m in (NAMED.match(node.name), SAID.match(text)))
        if named != said and (said or named == "a"):
            what = f"{file.name}: {node.name} is check {named} by its name and {said} by its docstring"
            raise BadData(what, 'test_a_... with a docstring "(a) ...", or neither', "rename it, or number both")
        if named is not None:
            words = node.name.removeprefix(f"test_{named}_").replace("_", " ").capitalize() + "."
            found.setdefault(named, {})[node.name] = SAID.sub("", text) or words
    order = sorted(found, key=lambda n: (len(n), n))
    letters = [chr(ord("a") + i) for i in range(len(order))]
    if not order or order not in (letters, [str(i + 1) for i in range(len(order))]):
        raise BadData(f"{file.name} has the checks {order}", "1, 2, 3 or a, b, c, all of them", "write what lacks")
    return tuple(Check(n, found[n]) for n in order)


class Watch:
    """A plugin of pytest: what became of every test, {name: {"passed": cases, "failed": cases, "skipped": [why]}}."""

    def __init__(self) -> None:
        self.seen: dict[str, dict[str, Any]] = {}

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Called for setup, call and teardown of each case."""
        name = report.nodeid.split("::")[-1].partition("[")[0]
        one = self.seen.setdefault(name, {**NEVER, "skipped": []})
        if hasattr(report, "wasxfail"):  # a test that is expected to fail has shown nothing, whatever it did
            one["skipped"].append(f"expected to fail: {report.wasxfail}")
        elif report.failed:
            one["failed"] += 1
        elif report.skipped:
            one["skipped"].append(str(report.longrepr[2]).removeprefix("Skipped: "))
        elif report.when == "call":
            one["passed"] += 1


def rows(checks: Sequence[Check], seen: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One row a check: passed only if every case of every one of its tests ran and passed; skipped says why some did
    not run, where none failed."""
    out = []
    for check in checks:
        each = [(t, seen.get(t, NEVER)) for t in check.tests]
        why = [w for _, one in each for w in one["skipped"]]
        why += [f"{t} did not run" for t, one in each if not (one["passed"] or one["failed"] or one["skipped"])]
        failed = sum(one["failed"] for _, one in each)
        skipped = "; ".join(dict.fromkeys(why)) if why and not failed else None
        out.append({"key": check.number, "passed": not (failed or why), "skipped": skipped, "tests": [*check.tests]})
    return out


def _loaded(root: Path) -> list[str]:
    """The files of this package and of the tests that this process runs; no __init__.py, which would name its whole
    folder as a source."""
    files = (getattr(m, "__file__", None) for m in [*sys.modules.values()])
    paths = {Path(f).resolve() for f in files if f and f.endswith(".py")}
    ours = {p for p in paths if p.is_relative_to(provenance.PACKAGE) or p.is_relative_to(root / "tests")}
    return sorted(str(p) for p in ours if p.name != "__init__.py")


def run(file: Path, root: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """Run a file of tests in a process of its own: its rows, and the sources that it ran on. BadData where pytest could
    not run it."""
    checks = numbered(file)
    with TemporaryDirectory() as folder:
        out = Path(folder) / "seen.json"
        line = [sys.executable, "-m", "mindhand.recipes.checks", str(file), str(out)]
        env = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST")} | {"OMP_NUM_THREADS": "1"}
        done = subprocess.run(line, cwd=root, env=env, capture_output=True, text=True)
        if done.returncode not in DONE or not out.exists():
            raise BadData(
                f"pytest could not run {file.name}: {(done.stdout + done.stderr)[-2000:]}",
                "tests that are collected and run",
                f"python -m pytest {file.name}",
            )
        found = json.loads(out.read_text())
    return rows(checks, found["seen"]), found["loaded"]


def publish(folder: Path | None = None, names: Sequence[str] = (), root: Path | None = None) -> list[Record]:
    """Run the checks of these methods, of all unless given, and write checks/<name>/unit: the share of its numbered
    checks that passed, a skipped one counted as not passed (under results/, or as drafts under `folder`). The tests are
    those of the checkout `root`, this one unless given."""
    from mindhand.methods import catalogue  # which imports torch: not needed where tests are only watched

    root = root or provenance.checkout(__file__)
    if root is None:
        raise BadData("no checkout, so no tests", "mindhand's source", "clone it, and run it there")
    out = []
    for name in names or catalogue():
        begin = time.monotonic()
        found, sources = run(file_of(root, name), root)
        out.append(
            write_record(
                f"checks/{name}/unit",
                rows=found,
                field="passed",
                kind="rate",
                unit="1",
                chance=None,
                sources=sources,
                command="mindhand bench checks",
                seconds=time.monotonic() - begin,
                folder=folder,
            )
        )
    return out


def main(file: str, out: str) -> int:
    """What `run` starts: pytest on one file; writes what became of its tests and which sources were loaded."""
    import pytest

    root, watch = Path.cwd().resolve(), Watch()
    code = pytest.main([file, "-q", "-p", "no:cacheprovider"], plugins=[watch])
    write_atomic(out, json.dumps({"seen": watch.seen, "loaded": _loaded(root)}))
    return int(code)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
