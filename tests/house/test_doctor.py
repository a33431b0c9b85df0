"""The environment doctor: versions are compared as numbers, a backend that does not work is named with a way out."""

from __future__ import annotations

import pytest

from mindhand.core.nouns import smoke_observation
from mindhand.recipes import doctor


@pytest.mark.parametrize(
    ("version", "window", "inside"),
    [
        ("2.13.0+cpu", ">=2.10", True),
        ("2.9.1", ">=2.10", False),  # as text "2.9" is larger
        ("3.10.0", ">=3.8.1,<3.10", False),
        ("3.9", ">=3.8.1,<3.10", True),
        ("3.8", ">=3.8.1,<3.10", False),
        ("1.0.0", "==1.0", True),
        ("1.0", "!=1.0", False),
        ("5", "", True),
    ],
)
def test_versions_are_numbers(version, window, inside):
    assert doctor.fits(version, window) == inside


def test_a_dependency_outside_its_window_is_bad(monkeypatch):
    monkeypatch.setattr(doctor, "requirements", lambda: iter([("numpy", "<1.0", False), ("no-such-thing", "", False)]))
    marks = [(f.mark, f.what) for f in doctor.check_versions()]
    assert marks == [("bad", "numpy"), ("bad", "no-such-thing")]
    assert all(f.do.startswith("pip install") for f in doctor.check_versions())


def test_a_backend_that_cannot_draw_is_named(monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", "glfw")
    monkeypatch.setattr(doctor, "BACKENDS", ("egl",))
    found = {f.what: f for f in doctor.check_render()}
    if found["render egl"].mark == "ok":
        assert found["MUJOCO_GL"].mark == "bad"
        assert found["MUJOCO_GL"].do == "export MUJOCO_GL=egl"
    else:  # a machine without libraries: that is what must be said
        assert found["rendering"].mark == "bad"
        assert "libegl1" in found["rendering"].do


def test_a_picture_that_is_not_drawn_right_fails(monkeypatch):
    monkeypatch.setattr(doctor, "BACKENDS", ("egl",))
    monkeypatch.setattr(doctor, "RENDER", doctor.RENDER.replace("1 0 0 1", "0 0 1 1"))
    assert {f.mark for f in doctor.check_render() if f.what in ("render egl", "rendering")} == {"warn", "bad"}


def test_it_reports_and_counts(capsys):
    findings = [doctor.Finding("ok", "a", "[b]"), doctor.Finding("bad", "c", "d", "e")]
    assert doctor.show(iter(findings)) == 1
    out = capsys.readouterr().out
    assert "[b]" in out
    assert "-> e" in out


def test_it_refuses_a_folder_that_is_no_checkpoint(tmp_path):
    from mindhand.core.errors import Refusal

    with pytest.raises(Refusal):
        doctor.doctor(tmp_path)


def test_a_checkpoint_that_acts_differently_is_found(tmp_path, capsys):
    import torch

    from mindhand.model import store
    from tests.model import test_vla as tiny

    vla = tiny.build()
    store.save_vla(vla, tmp_path / "good", smoke=smoke_observation(vla.spec))
    assert doctor.doctor(tmp_path / "good") == 0
    assert "the same as when it was saved" in capsys.readouterr().out
    # Other weights under the old prediction: what a changed library or a wrong merge would be.
    before = store.smoke_arrays(vla, smoke_observation(vla.spec))
    with torch.no_grad():
        for p in vla.expert.parameters():
            p.mul_(1.5)
    original, store.smoke_arrays = store.smoke_arrays, lambda *_: before
    try:
        store.save_vla(vla, tmp_path / "bad", smoke=smoke_observation(vla.spec))
    finally:
        store.smoke_arrays = original
    assert doctor.doctor(tmp_path / "bad") == 1
    assert "differs by up to" in capsys.readouterr().out
    store.save_vla(vla, tmp_path / "none")
    assert doctor.doctor(tmp_path / "none") == 0
    assert "none was stored" in capsys.readouterr().out


def test_the_smoke_observation_is_the_same_everywhere():
    import hashlib

    from tests.tiny_world import SPEC

    obs = smoke_observation(SPEC)
    digest = hashlib.sha256(obs.images["top"].tobytes() + obs.state.tobytes()).hexdigest()
    assert digest[:12] == "6d665d3e32b7"


def test_the_verb_for_datasets_returns_its_verdict(tmp_path, capsys):
    assert doctor.dataset(tmp_path / "nowhere") == 1
    assert "meta/info.json" in capsys.readouterr().out
