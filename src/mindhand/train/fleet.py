"""Rollouts carried over processes and machines by Ray (extra `dist`): the same ones, whoever plays them.

    players = Fleet(partial(load_vla, "runs/policy/checkpoint"), partial(DeskWorld, 8), actors=16)
    Rollouts(plan, players, folder)

Each actor has a policy and a world of its own. What is to be played is cut into shares of one group each, which an
actor that is idle takes; weights go once an iteration to each. A share comes back whole or not at all: where an actor
is lost, another takes its place and its share is played anew, so no episode is lost and none is there twice. Noise is
by the rollout's key, so a share is the same whoever plays it, and whether anyone was lost.

With RAY_ADDRESS set the actors are on that cluster; otherwise Ray is started on this machine. It listens on all of the
machine's addresses, whatever it is told, but (from 2.60 on, unless RAY_AUTH_MODE says otherwise) lets nobody in without
the token in ~/.ray/auth_token.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch

from mindhand.core.errors import BuildError, Refusal
from mindhand.core.keys import Key
from mindhand.core.seams import World
from mindhand.model.vla import VLA

from .rollouts import Played, RolloutPlan, play

TRIES = 3  # actors that a share may cost before it is the share that is wrong


def _ray() -> Any:
    try:
        import ray
    except ModuleNotFoundError as error:
        raise BuildError("rollouts over machines without Ray", "ray", "pip install 'mindhand[dist]'") from error
    if not ray.is_initialized():
        ray.init(log_to_driver=False, include_dashboard=None if os.environ.get("RAY_ADDRESS") else False)
    return ray


class Player:
    """What an actor is: a policy, its world, and which weights it has."""

    def __init__(self, policy: Callable[[], VLA], world: Callable[[], World]):
        torch.set_num_threads(1)
        self.vla, self.world, self.has = policy().eval(), world(), -1

    def ready(self) -> bool:
        """Whether it was made."""
        return True

    def play(self, number: int, weights: Mapping[str, Any], of: Mapping[Key, Key], plan: RolloutPlan) -> Played:
        """Rollouts of a share. number: names the weights, which are taken over once."""
        if self.has != number:
            self.vla.load_state_dict(weights)
            self.has = number
        return play(self.vla, of, plan, self.world)


class Fleet:
    """Whoever plays rollouts for `Rollouts`. policy, world: makers, called once in every actor; the world has at least
    as many rows as a group. actors: so many at once, a core each. lost: how many were replaced so far. What goes wrong
    in a maker is raised at once."""

    def __init__(self, policy: Callable[[], VLA], world: Callable[[], World], actors: int = 2):
        self._ray, self._makers, self.lost, self._number = _ray(), (policy, world), 0, 0
        if (cores := int(self._ray.cluster_resources().get("CPU", 0))) < actors:
            raise Refusal(f"{actors} actors on {cores} cores", "a core each", "ask for fewer, or for a larger cluster")
        self._kind = self._ray.remote(num_cpus=1)(Player)
        self.players = [self._kind.remote(policy, world) for _ in range(actors)]
        self._ray.get([p.ready.remote() for p in self.players])

    def __call__(self, vla: VLA, of: Mapping[Key, Key], plan: RolloutPlan) -> Played:
        """Rollouts and what was seen in them, in the order of `of`. Refusal where a share costs `TRIES` actors, or a
        player refuses."""
        ray, self._number = self._ray, self._number + 1
        weights = ray.put({n: x.detach().cpu() for n, x in vla.state_dict().items()})
        keys, alike = [*of], replace(plan, rows=plan.many)
        groups = [{k: of[k] for k in keys[i : i + plan.many]} for i in range(0, len(keys), plan.many)]
        shares = deque((i, some, 0) for i, some in enumerate(groups))
        found: dict[int, Played] = {}
        idle, busy = list(range(len(self.players))), {}
        while shares or busy:
            while shares and idle:
                who, share = idle.pop(), shares.popleft()
                job = self.players[who].play.remote(self._number, weights, share[1], alike)
                busy[job] = who, share
            (job,), _ = ray.wait(list(busy))
            who, (index, some, tried) = busy.pop(job)
            try:
                found[index] = ray.get(job)
            except ray.exceptions.RayActorError as error:
                if tried + 1 == TRIES:
                    what = f"{TRIES} actors were lost at the rollouts from {next(iter(some.values()))}: {error}"
                    raise Refusal(
                        what, "a process with enough memory for policy and world", "see Ray's logs"
                    ) from error
                self.players[who] = self._kind.remote(*self._makers)
                self.lost += 1
                shares.appendleft((index, some, tried + 1))
            except ray.exceptions.RayTaskError as error:
                raise error.cause from error
            idle.append(who)
        order = [found[i] for i in sorted(found)]
        return [r for played, _ in order for r in played], {n: q for _, seen in order for n, q in seen.items()}

    def close(self) -> None:
        """End the actors; the cluster goes on."""
        for player in self.players:
            self._ray.kill(player)
        self.players = []
