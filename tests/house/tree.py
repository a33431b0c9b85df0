"""What the house tests look at: the files of this checkout, tracked or about to be."""

from __future__ import annotations

import subprocess
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SKIP = {".venv", ".git", "build", "dist", "runs", "__pycache__"}


@cache
def files() -> tuple[str, ...]:
    """Paths relative to the root: what git tracks or would add; without git (an sdist), all that is no build output."""
    git = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if git.returncode == 0 and (ROOT / ".git").exists():
        found = set(git.stdout.split("\0")) - {""}
    else:
        found = {str(p.relative_to(ROOT)) for p in ROOT.rglob("*") if p.is_file() and not SKIP & set(p.parts)}
    return tuple(sorted(f for f in found if (ROOT / f).is_file()))


@cache
def read(path: str) -> bytes:
    """The bytes of one of `files()`."""
    return (ROOT / path).read_bytes()


def is_binary(data: bytes) -> bool:
    """True where a person could not read it: a NUL byte near the start, or no UTF-8."""
    if b"\0" in data[:8192]:
        return True
    try:
        data.decode()
    except UnicodeDecodeError:
        return True
    return False


def python(under: str = "") -> list[str]:
    """Python files below a folder."""
    return [f for f in files() if f.endswith(".py") and f.startswith(under)]
