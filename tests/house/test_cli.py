"""The command line is frozen, explains itself, and refuses without a traceback."""

from __future__ import annotations

import inspect
import io
import json
import os
import re
import subprocess
import sys
import tomllib
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import MISSING, fields
from pathlib import Path

import pytest

from mindhand import cli

from .tree import read

FROZEN = json.loads(Path(__file__).with_name("cli.json").read_text())


def now() -> dict[str, list[str]]:
    """Verb -> its fields, required ones marked."""
    return {
        name: [f.name + ("" if f.default is not MISSING else " (required)") for f in fields(kind)]
        for name, kind in cli.ENGINES.items()
    }


def run(*argv: str) -> tuple[int, str, str]:
    """Exit code, stdout, stderr of a command line, in this process."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        try:
            code = cli.main(argv)
        except SystemExit as stop:
            code = stop.code
    return code, out.getvalue(), err.getvalue()


def test_no_verb_or_option_appears_unnoticed():
    assert now() == FROZEN, "a change to the command line needs a line in docs/decisions.md and in tests/house/cli.json"
    assert len(cli.VERBS) <= 12


@pytest.mark.parametrize("verb", cli.ENGINES)
def test_every_verb_shows_an_example_that_parses(verb):
    code, out, _ = run(*verb.split(), "--help")
    assert code == 0
    example = re.search(r"Example: (mindhand .+)", out)
    assert example, out
    # The real parser reads the example; shlex keeps the quoted question whole.
    import shlex

    parsed = cli.parse(shlex.split(example[1])[1:])
    assert type(parsed) is cli.ENGINES[verb]


@pytest.mark.parametrize("verb", cli.ENGINES)
def test_an_engine_takes_what_its_verb_parses(verb):
    kind = cli.ENGINES[verb]
    if verb not in cli.working():
        pytest.skip("not part of this version")
    module, _, name = kind.engine.partition(":")
    engine = getattr(__import__(module, fromlist=[name]), name)
    inspect.signature(engine).bind(**{f.name: None for f in fields(kind)})


def test_a_verb_without_its_engine_refuses(monkeypatch):
    monkeypatch.setattr(cli.Bench, "engine", "mindhand.recipes.nowhere:bench")
    code, _, err = run("bench")
    assert code == 2
    assert "`mindhand bench` is not part of this version" in err
    assert "expected:" in err
    assert "next step:" in err
    assert "bench" not in cli.working()


def test_a_missing_dependency_is_not_taken_for_a_missing_verb(tmp_path, monkeypatch):
    (tmp_path / "needy.py").write_text("import no_such_distribution")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(cli.Bench, "engine", "needy:bench")
    code, _, err = run("bench")
    assert code == 2
    assert "'no_such_distribution' is not installed" in err


def test_refusals_and_ctrl_c_have_their_own_codes(tmp_path, monkeypatch):
    (tmp_path / "engine_of_test.py").write_text(
        "from mindhand.core.errors import Refusal\n"
        "def refuse(**_): raise Refusal('the moon', 'the sun', 'wait')\n"
        "def stop(run, **_): run.mkdir(parents=True); raise KeyboardInterrupt\n"
        "def broken(**_): return 1\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(cli.Demo, "engine", "engine_of_test:refuse")
    assert run("demo") == (2, "", "mindhand: the moon\n  expected: the sun\n  next step: wait\n")
    monkeypatch.setattr(cli.Demo, "engine", "engine_of_test:stop")
    code, _, err = run("demo", "--run", "here/now")
    assert code == 130
    assert "lies in here/now" in err
    monkeypatch.setattr(cli.Demo, "engine", "engine_of_test:broken")
    assert run("demo")[0] == 1


@pytest.mark.parametrize("argv", [("trian",), ("train",), ("demo", "--seed", "x"), ("data",)])
def test_a_wrong_command_line_exits_2(argv):
    code, _, err = run(*argv)
    assert code == 2
    assert "Traceback" not in err


def test_the_script_of_pyproject_runs():
    scripts = tomllib.loads(read("pyproject.toml").decode())["project"]["scripts"]
    assert scripts == {"mindhand": "mindhand.cli:main"}
    done = subprocess.run([Path(sys.executable).parent / "mindhand", "--help"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert all(verb in done.stdout for verb in cli.VERBS)


def test_recording_an_unknown_task_is_refused():
    code, _, err = run("data", "record", "juggling")
    assert code == 2
    assert "no demonstrations of 'juggling'" in err


@pytest.mark.parametrize("words", [["bench", "--list"], ["eval", "--help"]])
def test_a_reader_who_leaves_early_is_no_error(words):
    read, write = os.pipe()
    os.close(read)
    script = f"import sys; from mindhand.cli import main; sys.exit(main({words}))"
    done = subprocess.run([sys.executable, "-c", script], stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    assert done.stderr == "" and done.returncode in (1, 141)  # rich has its own way of leaving
