"""LeRobot's environment is made once, and what fails there is told."""

from __future__ import annotations

import json

import pytest

from mindhand.core.errors import Refusal
from mindhand.recipes.lerobot_env import ALONE, DONE, SIDE, WHOLE, Side, lerobot_side, main


def environment(folder, script):
    """A folder whose interpreter is a script."""
    python = folder / "env" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f"#!/bin/sh\n{script}\n")
    python.chmod(0o755)
    return folder


NO_PIP = "echo 'ERROR: No matching distribution found for av==15.1.0' >&2; exit 1"


def test_what_is_there_is_not_made_again(tmp_path):
    """While it is of the same versions."""
    folder = environment(tmp_path / "it", NO_PIP)
    made = {"of": {"with dependencies": [*WHOLE], "alone": [*ALONE]}, "versions": {"lerobot": "0.4.4"}}
    (folder / DONE).write_text(json.dumps(made))
    assert lerobot_side(folder) == Side(folder, {"lerobot": "0.4.4"})
    made["of"]["alone"][0] = "lerobot==0.4.3"
    (folder / DONE).write_text(json.dumps(made))
    with pytest.raises(Refusal, match=r"av==15\.1\.0"):
        lerobot_side(folder)
    assert not (folder / DONE).exists()


def test_without_a_network_it_is_refused_with_what_pip_said(tmp_path, capsys):
    folder = environment(tmp_path / "it", NO_PIP)
    assert main([str(folder)]) == 2
    told = capsys.readouterr().err
    assert "No matching distribution found for av==15.1.0" in told and "a network" in told and "by hand" in told


def test_what_fails_on_the_other_side_is_told(tmp_path):
    """With its own last words, and of the command that it was given: isolated, or the script's folder were its path."""
    folder = environment(tmp_path / "it", 'echo "$1 ${2##*/} $3 and the network is gone"; exit 3')
    with pytest.raises(Refusal, match=r"(?s)failed at 'act'.*-I lerobot_side.py act and the network is gone"):
        Side(folder, {}).run("act", tmp_path)


def test_what_runs_there_imports_nothing_of_ours():
    text = SIDE.read_text()
    assert "import mindhand" not in text and "from mindhand" not in text and "from ." not in text
    assert all(
        "==" in line for line in (*WHOLE, *ALONE) if line.split("=")[0] in ("lerobot", "torch", "av", "datasets")
    )
