"""What every module owes its reader and its importer: a docstring, the right direction, declared dependencies."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path

import pytest

from .tree import ROOT, files, python, read

PUBLIC = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
# What a distribution is imported as, where that is not its name.
MODULES = {"pillow": "PIL", "import-linter": "importlinter"}
# Modules that are about an extra, and may therefore need it to be imported at all.
ABOUT = {"src/mindhand/worlds/gym.py": {"gymnasium"}}
# Slow or large: never loaded by the modules that test_importing_stays_light names.
SLOW = ("mujoco", "transformers", "av", "pyarrow")


@cache
def tree(path: str) -> ast.Module:
    return ast.parse(read(path))


def missing(module: ast.Module, path: str) -> list[str]:
    """The module, its public functions and its classes that have no docstring."""
    out = [] if ast.get_docstring(module) or not module.body else [path]
    for node in module.body:
        if isinstance(node, PUBLIC) and not node.name.startswith("_") and not ast.get_docstring(node):
            out.append(f"{path}:{node.lineno} {node.name}")
    return out


def test_everything_public_has_a_docstring():
    assert not [m for path in python("src/") for m in missing(tree(path), path)]


def test_a_missing_docstring_is_seen():
    assert missing(ast.parse('"""m"""\ndef f(): pass'), "a.py") == ["a.py:2 f"]
    assert missing(ast.parse("x = 1"), "a.py") == ["a.py"]
    assert not missing(ast.parse('"""m"""\ndef _f(): pass\nclass A:\n    """a"""'), "a.py")


def test_imports_run_downward_only():
    tool = Path(sys.executable).parent / "lint-imports"
    done = subprocess.run([tool, "--no-logo"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def imports(module: ast.Module, *, top: bool) -> set[str]:
    """Top-level package names imported: anywhere, or with `top` only where importing the module runs them."""
    nodes = [n for n in ast.walk(module)]
    if top:
        nodes, queue = [], list(module.body)
        while queue:
            node = queue.pop()
            nodes.append(node)
            guard = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
            if isinstance(node, ast.If | ast.Try | ast.With) and not guard:
                queue += node.body + getattr(node, "orelse", []) + getattr(node, "finalbody", [])
    names = {a.name for n in nodes if isinstance(n, ast.Import) for a in n.names}
    names |= {n.module for n in nodes if isinstance(n, ast.ImportFrom) and n.level == 0 and n.module}
    return {n.partition(".")[0] for n in names}


def declared(groups: tuple[str, ...] = ()) -> set[str]:
    """What pyproject.toml installs, as import names."""
    project = tomllib.loads(read("pyproject.toml").decode())["project"]
    lines = project["dependencies"] + [x for g in groups for x in project["optional-dependencies"][g]]
    names = {re.match(r"[\w-]+", line)[0].lower() for line in lines}
    return {MODULES.get(n, n.replace("-", "_")) for n in names}


def test_src_imports_what_is_declared():
    known = set(sys.stdlib_module_names) | {"mindhand"}
    optional = tuple(tomllib.loads(read("pyproject.toml").decode())["project"]["optional-dependencies"])
    anywhere, always = known | declared(optional), known | declared()
    for path in python("src/"):
        assert not (odd := imports(tree(path), top=False) - anywhere), f"{path} imports undeclared {odd}"
        odd = imports(tree(path), top=True) - always - ABOUT.get(path, set())
        assert not odd, f"{path} imports extras {odd} at its top"


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        ("mindhand.cli", ("torch", "numpy", *SLOW)),
        ("mindhand.core.nouns", ("torch", *SLOW)),
        ("mindhand.model", SLOW),
        ("mindhand.worlds.scene", ("torch", *SLOW)),
        ("mindhand.serve.execute", ("torch", *SLOW)),
    ],
)
def test_importing_stays_light(module, heavy):
    code = f"import sys, {module}; print(*[m for m in {heavy!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert not done.stdout.split()


def test_test_folders_are_packages():
    folders = {str(Path(f).parent) for f in files() if f.startswith("tests/") and Path(f).name.startswith("test_")}
    assert not [f for f in folders if f"{f}/__init__.py" not in files()]
