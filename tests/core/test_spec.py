"""The Spec: round trips, differences that name both sides, and every convention it refuses to leave open."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mindhand.core.errors import BadData, SpecMismatch
from mindhand.core.spec import ANGLES, ROTATION_SIZE, Camera, Part, Spec

XYZ = ("x", "y", "z")
POSITION = Part("eef", "position", XYZ, "m", "relative", "base")
TURN = Part("turn", "rotation", tuple("abcdef"), "1", "absolute", "base", "rot6d")
GRIP = Part("grip", "gripper", ("g",), "1", polarity="open")
ARM = Part("arm", "joint", ("j1", "j2"), "rad")
FRONT = Camera("front", 128, 128, (480, 640), 0.9, "area")
SPEC = Spec("toy", (POSITION, TURN, GRIP), (ARM, GRIP), (FRONT, Camera("wrist", 64, 64, (64, 64))), 10.0, "plain-1")

words = st.text("abcxyz_", min_size=1, max_size=5)


@st.composite
def parts(draw) -> Part:
    name = draw(words)
    kind = draw(st.sampled_from(["position", "rotation", "gripper", "joint", "other"]))
    mode = draw(st.sampled_from(["absolute", "delta", "relative"]))
    if kind == "rotation":
        how = draw(st.sampled_from(sorted(ROTATION_SIZE)))
        unit = draw(st.sampled_from(["rad", "deg"])) if how in ANGLES else "1"
        return Part(name, kind, tuple(f"r{i}" for i in range(ROTATION_SIZE[how])), unit, mode, draw(words), how)
    names = tuple(draw(st.lists(words, min_size=1, max_size=3, unique=True)))
    units = {
        "position": ["m", "cm", "mm"],
        "joint": ["rad", "deg", "m"],
        "gripper": ["1", "m", "rad"],
        "other": ["N", ""],
    }
    unit = draw(st.sampled_from(units[kind]))
    polarity = draw(st.sampled_from(["open", "closed"])) if kind == "gripper" else ""
    return Part(name, kind, names, unit, mode, draw(words) if kind == "position" else "", "", polarity)


@st.composite
def specs(draw) -> Spec:
    some = st.lists(parts(), max_size=3, unique_by=lambda p: p.name)
    cameras = st.lists(
        st.builds(Camera, words, st.just(8), st.just(8), st.tuples(st.integers(8, 99), st.integers(8, 99)),
                  st.floats(0.5, 1), st.sampled_from(["area", "bilinear"])),
        max_size=2, unique_by=lambda c: c.role,
    )  # fmt: skip
    return Spec(draw(words), tuple(draw(some)), tuple(draw(some)), tuple(draw(cameras)), draw(st.floats(1, 100)))


@given(specs())
def test_json_there_and_back(spec):
    again = Spec.from_json(json.loads(json.dumps(spec.to_json())))
    assert again == spec
    assert hash(again) == hash(spec)
    assert again.fingerprint() == spec.fingerprint()
    assert spec.differences(again) == []


@given(specs(), specs())
def test_differences_and_fingerprints_agree_with_equality(one, other):
    assert (one == other) == (one.differences(other) == []) == (one.fingerprint() == other.fingerprint())


def test_a_fingerprint_never_changes():
    """Statistics in checkpoints are bound to it."""
    assert SPEC.fingerprint() == "4bd27d58ec59"


def test_every_field_counts():
    changed = [
        replace(SPEC, robot="other"),
        replace(SPEC, rate=20.0),
        replace(SPEC, prompt="plain-2"),
        replace(SPEC, action=(TURN, POSITION, GRIP)),
        replace(SPEC, action=(replace(POSITION, unit="mm"), TURN, GRIP)),
        replace(SPEC, action=(replace(POSITION, mode="delta"), TURN, GRIP)),
        replace(SPEC, action=(replace(POSITION, frame="camera"), TURN, GRIP)),
        replace(SPEC, action=(replace(POSITION, names=("x", "z", "y")), TURN, GRIP)),
        replace(SPEC, action=(POSITION, TURN, replace(GRIP, polarity="closed"))),
        replace(SPEC, state=(ARM,)),
        replace(SPEC, cameras=(FRONT,)),
        replace(SPEC, cameras=(replace(FRONT, interpolation="bilinear"), SPEC.cameras[1])),
        replace(SPEC, cameras=(replace(FRONT, crop=1.0), SPEC.cameras[1])),
        replace(SPEC, cameras=SPEC.cameras[::-1]),
    ]
    assert len({s.fingerprint() for s in (SPEC, *changed)}) == len(changed) + 1
    for other in changed:
        with pytest.raises(SpecMismatch):
            SPEC.require(other, "a", "b")


def test_a_mismatch_names_both_sides_and_every_difference():
    other = replace(SPEC, rate=20.0, action=(replace(POSITION, unit="mm"), TURN, replace(GRIP, polarity="closed")))
    assert SPEC.differences(other) == [
        "action[0].unit: 'm' | 'mm'",
        "action[2].polarity: 'open' | 'closed'",
        "rate: 10.0 | 20.0",
    ]
    with pytest.raises(SpecMismatch) as caught:
        SPEC.require(other, "checkpoint runs/x", "world desk")
    for word in ("checkpoint runs/x", "world desk", "action[0].unit: 'm' | 'mm'", "polarity", "rate: 10.0 | 20.0"):
        assert word in str(caught.value)
    SPEC.require(other, "a", "b", what=("state", "cameras"))
    with pytest.raises(SpecMismatch):
        SPEC.require(other, "a", "b", what=("rate",))
    assert SPEC.differences(replace(SPEC, state=(ARM,)))[0].startswith("state: ")


def test_where_things_lie():
    assert (SPEC.action_size, SPEC.state_size) == (10, 3)
    assert SPEC.action_names()[2:5] == ["eef.z", "turn.a", "turn.b"]
    assert SPEC.state_names() == ["arm.j1", "arm.j2", "grip.g"]
    assert SPEC.part("turn") == slice(3, 9)
    assert SPEC.part("grip") == slice(9, 10)
    assert SPEC.part("grip", "state") == slice(2, 3)
    assert SPEC.roles == ("front", "wrist")
    assert SPEC.camera("wrist").height == 64
    with pytest.raises(SpecMismatch, match=r"'top'[\s\S]*front"):
        SPEC.camera("top")
    with pytest.raises(SpecMismatch, match=r"'eef'[\s\S]*arm"):
        SPEC.part("eef", "state")


@pytest.mark.parametrize(
    "make",
    [
        lambda: Part("p", "position", XYZ, "inch", frame="base"),
        lambda: Part("p", "position", XYZ, "", frame="base"),
        lambda: Part("p", "positions", XYZ, "m", frame="base"),
        lambda: Part("p", "joint", XYZ, "degrees"),
        lambda: Part("p", "gripper", ("g",), "mm", polarity="open"),
        lambda: Part("p", "position", XYZ, "m"),
        lambda: Part("p", "rotation", XYZ, "rad", rotation="axis_angle"),
        lambda: Part("p", "rotation", XYZ, "rad", frame="base"),
        lambda: Part("p", "rotation", XYZ, "rad", frame="base", rotation="rot6d"),
        lambda: Part("p", "rotation", XYZ, "rad", frame="base", rotation="euler"),
        lambda: Part("p", "gripper", ("g",), "1"),
        lambda: Part("p", "rotation", tuple("abc"), "1", frame="b", rotation="axis_angle"),
        lambda: Part("p", "rotation", tuple("abcdef"), "rad", frame="b", rotation="rot6d"),
        lambda: Part("p", "gripper", ("g",), "1", polarity="up"),
        lambda: Camera("front", 8, 8, (16, 16)),
        lambda: Camera("front", 8, 8, (8, 8), 0.9),
        lambda: replace(SPEC, action=(ARM, ARM)),
        lambda: replace(SPEC, state=(replace(ARM, names=("j", "j")),)),
        lambda: replace(SPEC, cameras=(FRONT, replace(FRONT, height=9))),
        lambda: Spec.from_json({}),
        lambda: Spec.from_json({**SPEC.to_json(), "surplus": 1}),
        lambda: Spec.from_json({k: v for k, v in SPEC.to_json().items() if k != "rate"}),
        lambda: Spec.from_json({**SPEC.to_json(), "action": [{"name": "p"}]}),
        lambda: Spec.from_json({**SPEC.to_json(), "cameras": None}),
        lambda: Spec.from_json({**SPEC.to_json(), "state": [{**SPEC.to_json()["state"][0], "kind": "nose"}]}),
    ],
)
def test_what_is_left_open_is_refused(make):
    with pytest.raises(BadData) as caught:
        make()
    assert caught.value.expected
    assert caught.value.do


def test_a_part_of_another_kind_may_have_any_unit():
    assert Part("force", "other", ("f",), "N").size == 1
