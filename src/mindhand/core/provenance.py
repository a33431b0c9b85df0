"""Where a number came from: the code (commit, hashes of the sources), the versions, the machine, the command."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from .errors import BadData

PACKAGE = Path(__file__).resolve().parents[1]
MEASURED_WITH = ("mindhand", "torch", "numpy", "mujoco", "tokenizers", "pillow", "transformers", "metaworld")


def checkout(path: Path | str) -> Path | None:
    """The root of the git checkout that holds `path`, or None (an installed wheel is in no checkout)."""
    path = Path(path).resolve()
    if "site-packages" in path.parts:
        return None
    return next((p for p in (path, *path.parents) if (p / ".git").exists()), None)


def _git(root: Path, *words: str) -> str:
    done = subprocess.run(("git", "-C", str(root), *words), capture_output=True, text=True)
    if done.returncode:
        raise BadData(f"git {words[0]} failed: {done.stderr.strip()}", "a working checkout", "repair the checkout")
    return done.stdout.rstrip("\n")


def commit(root: Path) -> str:
    """The commit of a checkout, 12 digits."""
    return _git(root, "rev-parse", "--short=12", "HEAD")


def dirty(root: Path, files: Sequence[Path]) -> list[str]:
    """What differs from the commit: tracked files under src/, and any of `files`, even if git never saw it."""
    inside = [str(f) for f in files if f.is_relative_to(root)]
    lines = _git(root, "status", "--porcelain", "--untracked-files=no", "--", "src").splitlines()
    if inside:
        lines += _git(root, "status", "--porcelain", "--untracked-files=all", "--ignored", "--", *inside).splitlines()
    return sorted({line[3:] for line in lines})


def source_files(sources: Sequence[str | Path | ModuleType]) -> list[Path]:
    """The files behind modules (objects or dotted names), packages (every .py under them) and paths."""
    out: set[Path] = set()
    for source in sources:
        if isinstance(source, str) and source.startswith("mindhand.") and not source.endswith(".py"):
            path = PACKAGE.joinpath(*source.split(".")[1:])
            path = path if path.is_dir() else path.with_suffix(".py")
        else:
            path = Path((source.__file__ or "?") if isinstance(source, ModuleType) else source)
            path = path.parent if path.name == "__init__.py" else path
        if not path.exists() or str(source) in ("", "."):
            raise BadData(f"no source '{source}'", "a path, a module, or 'mindhand.x.y'", "name what the number used")
        out.update(p.resolve() for p in (path.rglob("*.py") if path.is_dir() else [path]))
    if not out:
        raise BadData("no sources", "the files or modules that made the number", "give sources=[...]")
    return sorted(out)


def source_name(path: Path) -> str:
    """How a record names a source: "src/mindhand/..." for the package wherever it is installed, else relative
    to its checkout, else the bare file name."""
    root = checkout(path)
    if path.is_relative_to(PACKAGE):
        return f"src/mindhand/{path.relative_to(PACKAGE).as_posix()}"
    return path.relative_to(root).as_posix() if root else path.name


def source_hash(path: Path) -> str:
    """12 hexadecimal digits of a source file, the same whatever its line ends."""
    return hashlib.sha256(path.read_bytes().replace(b"\r\n", b"\n")).hexdigest()[:12]


def code_hash(sources: Sequence[str | Path | ModuleType]) -> str:
    """12 hexadecimal digits that change with any line, and any name, of the files behind these sources."""
    told = "".join(f"{source_name(path)} {source_hash(path)}\n" for path in source_files(sources))
    return hashlib.sha256(told.encode()).hexdigest()[:12]


def versions() -> dict[str, str]:
    """Python and every installed package that can change a number."""
    out = {"python": platform.python_version()}
    for name in MEASURED_WITH:
        try:
            out[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return out


def hardware() -> dict[str, str | int]:
    """CPU model, cores this process may use, threads torch uses, and the GPU if torch is loaded and sees one."""
    model = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), model)
    except OSError:
        pass
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    out: dict[str, str | int] = {"cpu": model, "cores": cores}
    if torch := sys.modules.get("torch"):
        out["threads"] = torch.get_num_threads()
        if torch.cuda.is_available():
            out["gpu"] = torch.cuda.get_device_name()
    return out


def command() -> str:
    """The command line of this process, with absolute paths as a record names sources: no machine shows."""

    def short(word: str) -> str:
        return source_name(Path(word)) if Path(word).is_absolute() else word

    return shlex.join(short(word) for word in sys.argv)
