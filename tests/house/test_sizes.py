"""A file is read in one sitting: 400 lines, a method 300, the trunk 600; the checkout stays small."""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from mindhand.model.shipped import MOST, WEIGHTS, shipped_bytes

from .tree import ROOT, files, is_binary, python, read

LIMIT, METHOD, TRUNK, TREE_MIB = 400, 300, 600, 40

# Exceptions, with the lines they have now. An entry may only shrink: a longer file fails, and so does a shorter
# one until its number here is lowered or, below the limit, removed.
ALLOWED: dict[str, int] = {}


def limit(path: str) -> int:
    """The most lines this file may have."""
    if path.startswith("src/mindhand/methods/"):
        return METHOD
    return TRUNK if path == "src/mindhand/model/trunk.py" else LIMIT


def complaint(path: str, lines: int, allowed: dict[str, int]) -> str | None:
    """Why this file may not be so long, or None."""
    most = limit(path)
    if path not in allowed:
        return f"{path} has {lines} lines, more than {most}: split it" if lines > most else None
    if lines > allowed[path]:
        return f"{path} grew from {allowed[path]} to {lines} lines: the allow-list only shrinks"
    if lines <= most:
        return f"{path} is within its limit: remove it from the allow-list"
    return f"{path} shrank to {lines} lines: lower its entry" if lines < allowed[path] else None


def test_no_file_is_longer_than_one_sitting():
    found = [complaint(path, len(read(path).splitlines()), ALLOWED) for path in python()]
    assert not [c for c in found if c]


def test_the_allow_list_names_files_that_exist():
    assert set(ALLOWED) <= set(files())


@pytest.mark.parametrize(
    ("path", "lines", "allowed", "bad"),
    [
        ("src/mindhand/data/a.py", 400, {}, False),
        ("src/mindhand/data/a.py", 401, {}, True),
        ("src/mindhand/methods/act/a.py", 301, {}, True),
        ("src/mindhand/model/trunk.py", 600, {}, False),
        ("src/mindhand/model/trunk.py", 601, {}, True),
        ("a.py", 500, {"a.py": 500}, False),
        ("a.py", 501, {"a.py": 500}, True),
        ("a.py", 499, {"a.py": 500}, True),
        ("a.py", 300, {"a.py": 500}, True),
    ],
)
def test_the_rule_itself(path, lines, allowed, bad):
    assert (complaint(path, lines, allowed) is not None) == bad


def test_the_tree_stays_below_40_mib():
    sizes = {path: (ROOT / path).stat().st_size for path in files()}
    largest = sorted(sizes, key=lambda path: -sizes[path])[:5]
    assert sum(sizes.values()) <= TREE_MIB * 2**20, {path: sizes[path] for path in largest}


def overweight(folder: Path) -> str | None:
    """Why these weights may not be shipped together, or None."""
    size = shipped_bytes(folder)
    return f"{size:,} bytes of weights in {folder}, more than {MOST:,}" if size > MOST else None


def test_all_weights_that_are_shipped_fit_into_16_mib(tmp_path):
    assert MOST == 16 * 2**20 and overweight(WEIGHTS) is None
    for name in ("nano", "another"):
        (tmp_path / name / "checkpoint").mkdir(parents=True)
        (tmp_path / name / "checkpoint" / "weights-00001.safetensors").write_bytes(bytes(MOST // 2))
    assert overweight(tmp_path) is None
    (tmp_path / "another" / "README.md").write_text("a card")
    assert "16,777,222 bytes" in str(overweight(tmp_path))


def assets() -> list[str]:
    """The path patterns of ASSETS.md's table: the first cell of each row, in backticks."""
    rows = [line.split("|")[1].strip() for line in read("ASSETS.md").decode().splitlines() if line.startswith("| `")]
    return [cell.strip("`") for cell in rows]


def test_every_binary_is_listed_with_its_licence():
    patterns = assets()
    loose = [path for path in files() if is_binary(read(path)) and not any(fnmatchcase(path, p) for p in patterns)]
    assert not loose, f"list these in ASSETS.md with source and licence: {loose}"


def test_every_asset_row_names_a_file():
    stale = [p for p in assets() if not any(fnmatchcase(path, p) for path in files())]
    assert not stale, f"ASSETS.md lists what is not here: {stale}"


def test_a_binary_is_known_when_seen():
    assert is_binary(b"\x89PNG\r\n\x1a\n\0\0\0")
    assert is_binary(b"\xff\xfe no text")
    assert not is_binary("Größe × 2 → text".encode())
