"""The doctor finds each illness, calls a healthy set healthy, and draws what the model sees."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from mindhand.core.keys import Key
from mindhand.data.doctor import doctor
from mindhand.data.episodes import Episode
from mindhand.data.lerobot_read import LeRobotReader
from mindhand.data.lerobot_write import LeRobotWriter
from mindhand.data.sheet import GAP, LINE, contact_sheet
from tests.data.make import make_episode, point_spec, write


def healthy(count: int = 6) -> list[Episode]:
    return [replace(make_episode(i, 8), success=True) for i in range(count)]


def found(tmp_path, episodes, severity="error") -> dict[str, str]:
    report = doctor(write(tmp_path / "set", episodes))
    assert report.exit_code == (1 if report.errors else 0)
    return {f.check: f.what for f in report.findings if f.severity == severity}


def test_a_healthy_set_is_healthy(tmp_path):
    path = write(tmp_path / "set", healthy(), scene="s1", command="record it")
    report = doctor(path)
    assert report.exit_code == 0
    assert {f.severity for f in report.findings} == {"fine"}
    assert report.facts["scene"] == "s1"


def still(episode: Episode, what: str, d: int) -> Episode:
    x = getattr(episode, what).copy()
    x[:, d] = 0.5
    return replace(episode, **{what: x})


def paint(episode: Episode, level: int, role: str = "wrist") -> Episode:
    return replace(episode, images={**episode.images, role: np.full_like(episode.images[role], level)})


ILLNESSES = {
    "dead dimension": (lambda e: [still(x, "action", 2) for x in e], "warning", "dimensions", "gripper.width"),
    "nothing moves": (
        lambda e: [still(still(x, "state", 0), "state", 1) for x in e],
        "error",
        "dimensions",
        "no dimension of state",
    ),
    "black camera": (lambda e: [paint(x, 2) for x in e], "error", "pictures", "all black"),
    "some black": (lambda e: [paint(e[0], 0), *e[1:]], "warning", "pictures", "black in"),
    "frozen camera": (lambda e: [paint(x, 90) for x in e], "error", "pictures", "one and the same"),
    "no instruction": (lambda e: [replace(e[0], instruction=" "), *e[1:]], "error", "instruction", "episodes 0"),
    "no reasoning": (lambda e: [replace(e[0], reasoning=[""] * 8), *e[1:]], "warning", "reasoning", "8 of 48"),
    "copied episode": (
        lambda e: [*e, replace(e[2], key=Key("unit", "copy", 1))],
        "error",
        "duplicates",
        "episodes 2, 6",
    ),
    "key twice": (lambda e: [*e, replace(make_episode(9), key=e[0].key)], "error", "duplicates", "unit/pick/0/0"),
    "odd length": (lambda e: [*e, replace(make_episode(9, 60), success=True)], "warning", "length", "episodes 6"),
    "one frame": (lambda e: [*e, make_episode(9, 1)], "error", "length", "one frame"),
    "mostly failures": (
        lambda e: [replace(x, success=i > 3) for i, x in enumerate(e)],
        "warning",
        "success",
        "2 of 6",
    ),
    "not judged": (lambda e: [replace(x, success=None) for x in e], "warning", "success", "no episode"),
}


@pytest.mark.parametrize("name", ILLNESSES)
def test_each_illness_is_found(tmp_path, name):
    change, severity, check, words = ILLNESSES[name]
    assert words in found(tmp_path, change(healthy()), severity).get(check, "nothing")


def test_cameras_that_show_the_same(tmp_path):
    spec = replace(
        point_spec(), cameras=tuple(replace(c, height=8, width=8, source=(8, 8)) for c in point_spec().cameras)
    )
    episodes = [replace(x, images={r: x.images["wrist"] for r in x.images}) for x in healthy()]
    write(tmp_path / "set", episodes, spec)
    (finding,) = doctor(tmp_path / "set").errors
    assert "show the same pictures" in finding.what


def test_what_the_reader_refuses_is_reported_and_not_raised(tmp_path):
    assert "path" in doctor(tmp_path / "nothing").errors[0].what
    path = write(tmp_path / "set", healthy())
    info = json.loads((path / "meta/info.json").read_text())
    (path / "meta/info.json").write_text(json.dumps(info | {"codebase_version": "v1.6"}))
    report = doctor(path)
    assert report.exit_code == 1
    assert "v1.6" in report.errors[0].what


def test_wrong_values_do_not_hide_each_other(tmp_path):
    from tests.data.test_lerobot import edit_data, nan_in, put

    path = write(tmp_path / "set", healthy())
    edit_data(path, "action", nan_in)
    edit_data(path, "timestamp", lambda v: put(v, 3, 9.0))
    errors = [f.what for f in doctor(path, sheet=tmp_path / "sheet.png").errors]
    assert len(errors) == 2
    assert "NaN" in "".join(errors)
    assert not (tmp_path / "sheet.png").exists()


def test_an_unfinished_recording_is_mentioned(tmp_path):
    path = write(tmp_path / "set", healthy())
    writer = LeRobotWriter(path, point_spec())
    writer.append(make_episode(20))
    writer.close()
    assert "1 recorded" in {f.check: f.what for f in doctor(path).findings}["finished"]


def test_it_prints(tmp_path):
    console = Console(record=True, width=120, file=open("/dev/null", "w"))  # noqa: SIM115
    report = doctor(write(tmp_path / "set", [paint(x, 2) for x in healthy()]), sheet=tmp_path / "sheet.png")
    report.print(console)
    text = console.export_text()
    assert "all black" in text
    assert "joint.x, joint.y, gripper.width" in text


def test_the_sheet_shows_exactly_what_the_model_sees(tmp_path):
    reader = LeRobotReader(write(tmp_path / "set", healthy()))
    path = contact_sheet(reader, tmp_path / "sheet.png", [1, 4], columns=3)
    sheet = np.asarray(Image.open(path))
    zoom = 96 // 8
    seen = {role: reader.seen(role, [8, 11, 15]) for role in reader.spec.roles}  # first, middle, last of episode 1
    y = GAP + 3 * LINE + LINE
    for role in ("front", "wrist"):
        for i in range(3):
            x = GAP + i * (96 + GAP)
            shown = sheet[y : y + 96, x : x + 96]
            assert (shown == seen[role][i].repeat(zoom, 0).repeat(zoom, 1)).all()
        y += 96 + LINE
