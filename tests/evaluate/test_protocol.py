"""Protocols: frozen, versioned, and a part of one is a part of the same episodes."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mindhand.core.errors import BadData
from mindhand.evaluate.protocol import HEIGHTS, MATHS, METAWORLD_10, METAWORLD_50, PROTOCOLS, Protocol, keys, named

from .tiny import PROTOCOL


@pytest.mark.parametrize("protocol", [*PROTOCOLS.values(), PROTOCOL])
def test_it_survives_its_own_json(protocol):
    assert Protocol.from_json(protocol.to_json()) == protocol
    assert Protocol.from_json(protocol.to_json()).fingerprint() == protocol.fingerprint()


# A published number belongs to these bytes: who changes a field raises the version, then this line.
FROZEN = {
    "maths-matching-2": "f9abf6915a40",
    "maths-matching-scanned-1": "09419fba4a82",
    "spatial-placing-1": "07247f859f60",
    "maths-matching-absent-1": "83f80d2b06d1",
    "spatial-placing-absent-1": "2996d22696da",
    "spatial-placing-cue-1": "28a61e02c050",
    "spatial-placing-biased-1": "8db2d1a9ee0e",
    "obstacle-course-1": "be6fdd9aa4d3",
    "height-reaching-1": "2568c07196ce",
    "hidden-state-1": "d8649d51c69e",
    "metaworld-mt10-1": "152f86d5f916",
    "metaworld-mt50-1": "84c67e51c3c4",
}


def test_published_protocols_do_not_change_under_their_name():
    assert {p.id: p.fingerprint() for p in PROTOCOLS.values()} == FROZEN


@given(st.sampled_from(["version", "episodes", "steps", "replan", "rows", "seed"]))
def test_every_field_shows_in_the_fingerprint(field):
    assert replace(PROTOCOL, **{field: getattr(PROTOCOL, field) + 1}).fingerprint() != PROTOCOL.fingerprint()


@given(st.lists(st.sampled_from(MATHS.tasks), unique=True), st.integers(1, 20))
def test_a_part_is_the_same_episodes(tasks, episodes):
    part = MATHS.only(*tasks, episodes=episodes)
    assert len(keys(part)) == len(part.tasks) * episodes
    wanted = set(keys(part))
    assert [k for k in keys(MATHS) if k in wanted] == keys(part)


def test_a_new_version_draws_new_episodes():
    assert not set(keys(PROTOCOL)) & set(keys(replace(PROTOCOL, version=2)))


@pytest.mark.parametrize("bad", [{"rows": 0}, {"tasks": ()}, {"tasks": ("a", "a")}, {"version": 0}])
def test_nonsense_is_refused(bad):
    with pytest.raises(BadData):
        replace(PROTOCOL, **bad)


def test_more_episodes_and_unknown_tasks_are_refused():
    with pytest.raises(BadData):
        MATHS.only(episodes=MATHS.episodes + 1)
    with pytest.raises(BadData, match="K-prod"):
        MATHS.only("maths_matching/K-prod")
    with pytest.raises(BadData, match="no protocol"):
        named("maths")
    with pytest.raises(BadData, match="not a protocol"):
        Protocol.from_json({"name": "x"})


def test_it_refuses_other_pictures():
    from tests.tiny_world import SPEC

    PROTOCOL.require(SPEC)
    camera = replace(SPEC.cameras[0], interpolation="area", source=(64, 64))
    with pytest.raises(BadData, match="64"):
        PROTOCOL.require(replace(SPEC, cameras=(camera,)))


def test_the_maths_protocol_is_the_desk_s():
    from mindhand.worlds.desk.spec import LIMITS, SPEC
    from mindhand.worlds.scene import sample_task

    MATHS.require(SPEC)
    assert MATHS.steps == max(LIMITS.values())
    for task in MATHS.tasks:
        scene = sample_task(next(k for k in keys(MATHS) if k.task == task))
        assert task == f"maths_matching/{scene.split}"


def test_the_protocol_of_heights_is_the_desk_s():
    from mindhand.worlds.desk.spec import HEIGHTS_LIMIT, SPEC
    from mindhand.worlds.heights import AROUND, BAND, MEAN, OVER, sample_heights_task

    HEIGHTS.require(SPEC)
    assert HEIGHTS.steps == HEIGHTS_LIMIT
    assert pytest.approx((0.015, 0.035, 0.02)) == (OVER - BAND, OVER + BAND, AROUND)  # as the protocol says
    assert {sample_heights_task(k).height for k in keys(HEIGHTS.only("height_reaching/flat"))} == {MEAN}


def test_the_protocols_of_metaworld_are_its_world_s():
    from mindhand.worlds.metaworld_spec import LIMIT, SPEC, TASKS

    for protocol, tasks in ((METAWORLD_10, 10), (METAWORLD_50, 50)):
        protocol.require(SPEC)
        assert protocol.steps == LIMIT
        assert len(protocol.tasks) == tasks and {t.partition("/")[2] for t in protocol.tasks} <= set(TASKS)
