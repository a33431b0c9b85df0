"""Rollouts over processes: the same as here, whoever plays them and whoever is lost on the way."""

import os
import signal
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from mindhand.core.errors import BuildError, Refusal
from mindhand.core.keys import Key
from mindhand.train.fleet import Fleet
from mindhand.train.rollouts import Rollouts, play

from ..tiny_world import TinyWorld
from .test_rollouts import PLAN, STARTS, policy

pytest.importorskip("ray")
MANY = PLAN.many
OF = {Key("fleet", "touch/R", i): STARTS[i // MANY] for i in range(3 * MANY)}


class Mortal(TinyWorld):
    """A world whose process is killed in the middle of an episode, as often as there are files to take away."""

    def __init__(self, rows: int, deaths: Path):
        super().__init__(rows)
        self.deaths, self.steps = deaths, 0

    def step(self, actions, rows):
        self.steps += 1
        if self.steps % 5 == 0:
            for file in sorted(self.deaths.glob("*")):
                try:
                    file.unlink()
                except FileNotFoundError:  # the other actor took it
                    continue
                os.kill(os.getpid(), signal.SIGKILL)
        return super().step(actions, rows)


@pytest.fixture(scope="module", autouse=True)
def cluster():
    """Ray, whose processes find these tests."""
    root = str(Path(__file__).parents[2])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([root, os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep))
        yield
    import ray

    ray.shutdown()


@pytest.fixture
def fleet(tmp_path):
    """Two actors, of which as many die as files are put into the folder."""
    deaths = tmp_path / "deaths"
    deaths.mkdir()
    made = Fleet(policy, partial(Mortal, MANY, deaths), actors=2)
    yield made, deaths
    made.close()


def same(a, b):
    """Whether two sets of rollouts agree in every bit."""
    (found, seen), (other, theirs) = a, b
    assert found == other and [*seen] == [*theirs]
    for name, query in seen.items():
        for what, x in query.items():
            assert np.array_equal(x, theirs[name][what]), (name, what)
    return True


def test_a_lost_actor_is_replaced_and_no_episode_is_lost_or_doubled(fleet, tmp_path):
    """Bit for bit what one process plays; weights are those that are given, not those that an actor began with."""
    players, deaths = fleet
    vla = policy()
    with torch.no_grad():
        for p in vla.expert.parameters():
            p.add_(0.05)
    alone = [play(vla, dict([*OF.items()][i : i + MANY]), replace(PLAN, rows=MANY), TinyWorld(MANY)) for i in (0, 4, 8)]
    want = [r for found, _ in alone for r in found], {k: q for _, seen in alone for k, q in seen.items()}
    assert same(players(vla, OF, PLAN), want) and players.lost == 0
    assert [r.key for r in want[0]] == [*OF] and len(want[1]) == sum(r.queries for r in want[0])
    began = policy()
    other = play(began, dict([*OF.items()][:MANY]), replace(PLAN, rows=MANY), TinyWorld(MANY))
    assert any(not np.array_equal(q["value"], want[1][k]["value"]) for k, q in other[1].items())

    for i in range(2):
        (deaths / str(i)).touch()
    assert same(players(vla, OF, PLAN), want) and players.lost == 2
    assert same(players(vla, OF, PLAN), want), "those that took the place of the lost ones have other weights"

    # Into a Source it goes as a world does.
    source = Rollouts(replace(PLAN, dynamic=False), players, tmp_path / "rollouts")
    batch = source.batch(vla, 0)
    assert len(batch.logged["advantage"].value) == PLAN.queries
    assert len(source.metas()[0]["rewards"]) == PLAN.groups


def test_what_cannot_be_played_is_refused_and_told_why(fleet):
    """What a player refuses; a share that kills whoever plays it; more actors than there are cores."""
    players, deaths = fleet
    with pytest.raises(BuildError, match="every 9"):
        players(policy(), OF, replace(PLAN, replan=9))
    assert players.lost == 0
    for i in range(12):
        (deaths / str(i)).touch()
    with pytest.raises(Refusal, match="3 actors were lost at the rollouts from"):
        players(policy(), OF, PLAN)
    with pytest.raises(Refusal, match="1000 actors on"):
        Fleet(policy, partial(TinyWorld, MANY), actors=1000)
