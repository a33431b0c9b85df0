"""CLARE (2601.09512): tasks one after another, without stored data and without a task's name when acting.

Seam: Edit. Modules named by their path are wrapped: y = Base(x) + Adapter_k(x), and k is chosen a sample by the
autoencoder that knows its features best. What has grown is a table, with which the Edit is replayed before weights
are loaded.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from functools import cache

import pytest
import torch
from torch import Tensor, nn

from mindhand.core.batch import masked_rows
from mindhand.core.errors import BuildError
from mindhand.core.keys import Keys
from mindhand.core.parts import config_from_json
from mindhand.core.seams import Edit, Segment, text_position
from mindhand.model.diffusion import keyed_normal

from ..model.tiny import expert, vlm
from .build import batch, observation, vla


@dataclass(frozen=True)
class Grown:
    """One wrapped module: how many adapters, and to which of them each discriminator is connected."""

    adapters: int = 0
    connected: tuple[int, ...] = ()


@dataclass(frozen=True)
class Clare:
    """Edit. `paths` from shallow to deep; `grown` is empty at first and as long as `paths` in a checkpoint."""

    paths: tuple[str, ...]
    width: int  # of the features that the modules take
    out: int  # and give
    hidden: int = 8  # of adapters (paper: 1024)
    code: tuple[int, int] = (16, 8)  # of autoencoders (paper: 256, 128)
    grown: tuple[Grown, ...] = ()

    def apply(self, vla: nn.Module) -> None:
        """Wrap the modules; refuses a path that is not there or is wrapped already."""
        for i, path in enumerate(self.paths):
            parent, _, name = path.rpartition(".")
            try:
                owner = vla.get_submodule(parent)
                base = owner.get_submodule(name)
            except AttributeError as error:
                raise BuildError(f"no module '{path}'", "a path of this model", "see named_modules()") from error
            if isinstance(base, Routed):
                raise BuildError(f"'{path}' is wrapped twice", "one wrapper a module", "take one out")
            setattr(owner, name, Routed(base, self, self.grown[i] if self.grown else Grown()))

    def wrapped(self, vla: nn.Module) -> list[Routed]:
        """The wrappers, from shallow to deep."""
        return [m for m in map(vla.get_submodule, self.paths) if isinstance(m, Routed)]

    def after(self, vla: nn.Module) -> Clare:
        """The Edit that a checkpoint of this model must replay."""
        return replace(self, grown=tuple(Grown(len(m.adapters), tuple(m.connected)) for m in self.wrapped(vla)))


class Discriminator(nn.Module):
    """An autoencoder of a module's input, and what its error usually is."""

    mean: Tensor
    std: Tensor

    def __init__(self, width: int, code: tuple[int, int]):
        super().__init__()
        a, b = code
        self.net = nn.Sequential(
            nn.Linear(width, a), nn.ReLU(), nn.Linear(a, b), nn.ReLU(), nn.Linear(b, a), nn.ReLU(), nn.Linear(a, width)
        )
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("std", torch.ones(()))

    def error(self, x: Tensor, valid: Tensor | None = None) -> Tensor:
        """Squared error of each sample, (B,): mean over features and, if there are any, tokens that are `valid`."""
        error = (self.net(x) - x) ** 2
        return error.flatten(1).mean(1) if valid is None else masked_rows(error, valid)

    def z(self, x: Tensor) -> Tensor:
        """How unusual a batch is, a scalar."""
        return (self.error(x).mean() - self.mean).abs() / self.std.clamp_min(1e-6)


class Routed(nn.Module):
    """The wrapper. `task` forces the adapter of one discriminator (training, and users who know)."""

    def __init__(self, base: nn.Module, c: Clare, grown: Grown):
        super().__init__()
        self.base, self.config = base, c
        self.adapters, self.discriminators = nn.ModuleList(), nn.ModuleList()
        self.connected: list[int] = []
        self.task: int | None = None
        for _ in range(grown.adapters):
            self.add_adapter()
        for adapter in grown.connected:
            self.add_discriminator(adapter)

    def add_adapter(self) -> None:
        c = self.config
        up = nn.Linear(c.hidden, c.out)
        nn.init.zeros_(up.weight)
        nn.init.zeros_(up.bias)
        self.adapters.append(nn.Sequential(nn.Linear(c.width, c.hidden), nn.ReLU(), up))

    def add_discriminator(self, adapter: int) -> None:
        self.discriminators.append(Discriminator(self.config.width, self.config.code))
        self.connected.append(adapter)

    def errors(self, x: Tensor, valid: Tensor | None = None) -> Tensor:
        """(B, discriminators)."""
        return torch.stack([d.error(x, valid) for d in self.discriminators], 1)

    def route(self, x: Tensor, valid: Tensor | None = None) -> Tensor:
        """The discriminator of each sample, (B,) int64."""
        if self.task is not None:
            return torch.full(x.shape[:1], self.task % len(self.connected), device=x.device)
        with torch.no_grad():
            return self.errors(x, valid).argmin(1)

    def forward(self, x: Tensor, *rest: Tensor | None) -> Tensor:
        y = self.base(x, *rest)
        if not self.connected:
            return y
        valid = rest[1] if len(rest) > 1 else None  # as the trunk calls an FFN: task, valid
        adapter = torch.tensor(self.connected, device=x.device)[self.route(x, valid)].view(-1, *[1] * (x.ndim - 1))
        for k in adapter.unique().tolist():  # whole batches: a sample's bits do not depend on its neighbours' routes
            y = torch.where(adapter == k, y + self.adapters[k](x), y)
        return y


Forward = Callable[[int], Tensor]  # batch number of a task's data -> the policy's loss (or output), a scalar


def features(module: Routed, forward: Forward, batches: Sequence[int]) -> list[Tensor]:
    """What the module was given, a batch each."""
    seen: list[Tensor] = []
    handle = module.register_forward_pre_hook(lambda m, args: seen.append(args[0].detach()))
    with torch.no_grad():
        for i in batches:
            forward(i)
    handle.remove()
    return seen


def expand(layers: Sequence[Routed], forward: Forward, gamma: float, batches: Sequence[int]) -> list[int]:
    """Steps (1) to (3) for a new task: which layers got a new adapter. Every layer gets a new discriminator."""
    strange: list[bool] = []
    nearest: list[int] = []
    for m in layers:
        seen = features(m, forward, batches)
        with torch.no_grad():
            z = [float(torch.stack([d.z(x) for x in seen]).mean()) for d in m.discriminators]
            errors = [float(torch.stack([d.error(x).mean() for x in seen]).mean()) for d in m.discriminators]
        strange.append(all(v > gamma for v in z))
        nearest.append(m.connected[errors.index(min(errors))] if errors else -1)
    if not any(strange):
        strange[0] = True
    for m, new, old in zip(layers, strange, nearest):
        if new:
            m.add_adapter()
        m.add_discriminator(len(m.adapters) - 1 if new else old)
    return [i for i, new in enumerate(strange) if new]


def learn(layers: Sequence[Routed], forward: Forward, gamma: float, *, steps: int = 25, fit: int = 150) -> list[int]:
    """One task: expand, (4) train the new adapters alone, (5) then the new discriminators alone."""
    grown = expand(layers, forward, gamma, range(8))
    for m in layers:
        m.task = len(m.connected) - 1
    new = [p for i in grown for p in layers[i].adapters[-1].parameters()]
    optimiser = torch.optim.AdamW(new, 1e-2)
    for step in range(steps):
        optimiser.zero_grad()
        forward(step).backward(inputs=new)
        optimiser.step()
    for m in layers:
        seen, d = features(m, forward, range(32)), m.discriminators[-1]
        optimiser = torch.optim.AdamW(d.parameters(), 5e-3, weight_decay=0.01)
        for step in range(fit):
            optimiser.zero_grad()
            d.error(seen[step % 24]).mean().backward()
            nn.utils.clip_grad_norm_(d.parameters(), 10)
            optimiser.step()
        with torch.no_grad():  # what is usual is measured on batches that it was not fitted on
            usual = torch.stack([d.error(x).mean() for x in seen[24:]])
            d.mean, d.std = usual.mean(), usual.std()
    for m in layers:
        m.task = None
    return grown


# ---- two layers of the tiny mind, and tasks that feel unlike ---------------------------------------------

EDIT = Clare(("towers.vlm.layers.0.ffn", "towers.vlm.layers.1.ffn"), 32, 32)
ROWS, TOKENS = 16, 5


class Stream:
    """A task: tokens round a centre of its own, and something to predict from them."""

    def __init__(self, model: nn.Module, task: int):
        self.model, self.task = model, task
        self.centre = keyed_normal(Keys.seeded(1, "centre", task), TOKENS, 32, like=torch.zeros(1))
        self.target = keyed_normal(Keys.seeded(1, "target", task), 32, like=torch.zeros(1))

    def tokens(self, number: int) -> Segment:
        noise = keyed_normal(Keys.seeded(ROWS, "task", self.task, number), TOKENS, 32, like=torch.zeros(1))
        valid = torch.ones(ROWS, TOKENS, dtype=torch.bool)
        return Segment("text", self.centre + 0.3 * noise, valid, text_position(valid))

    def hidden(self, number: int) -> Tensor:
        return self.model([self.tokens(number)]).hidden["text"]

    def __call__(self, number: int) -> Tensor:
        return ((self.hidden(number).mean(1) - self.target) ** 2).mean()


@cache
def _learned(count: int) -> tuple[nn.Module, list[list[int]]]:
    if not count:
        model = vlm()
        torch.manual_seed(0)
        EDIT.apply(model)
        return model, []
    model, grown = deepcopy(_learned(count - 1))
    return model, [*grown, learn(EDIT.wrapped(model), Stream(model, count - 1), 0.0)]


def world(learned: int = 0) -> tuple[nn.Module, list[Routed], list[Stream]]:
    """The mind after so many tasks, gamma 0: its wrappers, and all tasks."""
    model, grown = deepcopy(_learned(learned))
    assert grown == [[0, 1]] * learned
    return model, EDIT.wrapped(model), [Stream(model, t) for t in range(3)]


def routes(layers: Sequence[Routed], task: Stream, number: int) -> Tensor:
    """(layers, B): the discriminator of each sample of a batch."""
    with torch.no_grad():
        return torch.stack([m.route(features(m, task.hidden, [number])[0]) for m in layers])


def test_is_an_edit_and_changes_nothing_at_first():
    plain, (model, layers, tasks) = vlm(), world()
    assert isinstance(EDIT, Edit)
    want = plain([tasks[0].tokens(0)]).hidden["text"]
    assert torch.equal(want, tasks[0].hidden(0))
    assert expand(layers, tasks[0], 0.0, range(2)) == [0, 1]
    assert torch.equal(want, tasks[0].hidden(0))  # a new adapter starts at zero
    with pytest.raises(BuildError, match="wrapped twice"):
        EDIT.apply(model)
    with pytest.raises(BuildError, match="no module"):
        Clare(("towers.vlm.layers.7.ffn",), 32, 32).apply(vlm())


@pytest.mark.parametrize("n", [1, 2])
def test_1_what_was_learned_stays_bit_for_bit(n):
    """(1) After task n, samples routed to adapters of tasks < n come out as before; and they are nearly all."""
    (_, _, before), (_, layers, after) = world(n), world(n + 1)
    with torch.no_grad():
        assert float(after[n](99)) < 0.9 * float(before[n](99))  # something was learned
        for t in range(n):
            was, now = before[t].hidden(99), after[t].hidden(99)
            old = (routes(layers, after[t], 99) < n).all(0)
            assert float(old.float().mean()) >= 0.95
            assert torch.equal(now[old], was[old])
    assert float((routes(layers, after[n], 99) == n).all(0).float().mean()) >= 0.95


def test_1_a_sample_s_bits_do_not_depend_on_its_neighbours():
    """A batch of both tasks gives each sample what it gets among its own kind."""
    model, layers, tasks = world(2)
    a, b = tasks[0].tokens(99), tasks[1].tokens(99)
    half = ROWS // 2
    mixed = replace(a, x=torch.cat([a.x[:half], b.x[half:]]))
    with torch.no_grad():
        out = model([mixed]).hidden["text"]
        assert torch.equal(out[:half], tasks[0].hidden(99)[:half])
        assert torch.equal(out[half:], tasks[1].hidden(99)[half:])
        for m in layers:  # whoever knows the task may say so
            m.task = 1
        assert not torch.equal(model([mixed]).hidden["text"][:half], out[:half])


@pytest.mark.parametrize("gamma,expected", [(0.0, [0, 1]), (math.inf, [0])])
def test_2_the_threshold_decides_who_grows(gamma, expected):
    """(2) gamma = 0 expands all layers, gamma = inf exactly the shallowest; the others connect to an old adapter."""
    _, layers, tasks = world(1)
    assert expand(layers, tasks[1], gamma, range(4)) == expected
    assert [len(m.adapters) for m in layers] == [2 if i in expected else 1 for i in (0, 1)]
    assert [m.connected for m in layers] == [[0, 1] if i in expected else [0, 0] for i in (0, 1)]


def test_2_a_threshold_between_tells_known_from_new():
    """What feels like an old task grows the shallowest layer only; what does not, grows everywhere."""
    _, layers, tasks = world(1)
    assert expand(layers, tasks[0], 10.0, range(50, 58)) == [0]
    _, layers, tasks = world(1)
    assert expand(layers, tasks[1], 10.0, range(50, 58)) == [0, 1]


def test_3_a_task_s_own_data_feel_usual():
    """(3) z of a discriminator on fresh data of its own task is below 3 on average; of others it is not."""
    _, layers, tasks = world(2)
    for m in layers:
        for i, own in enumerate(tasks[:2]):
            fresh, foreign = (features(m, s.hidden, range(100, 120)) for s in (own, tasks[2]))
            with torch.no_grad():
                assert float(torch.stack([m.discriminators[i].z(x) for x in fresh]).mean()) < 3
                assert float(torch.stack([m.discriminators[i].z(x) for x in foreign]).mean()) > 3


def test_only_new_parameters_train():
    before, after = (dict(world(n)[0].named_parameters()) for n in (1, 2))
    moved = {n for n, p in after.items() if n not in before or not torch.equal(p, before[n])}
    assert moved
    assert all(".adapters.1." in n or ".discriminators.1." in n for n in moved)


def test_a_checkpoint_replays_what_has_grown():
    """The Edit with its table, through plain JSON, makes the structure that the weights fit, strictly."""
    model, layers, tasks = world(1)
    expand(layers, tasks[1], math.inf, range(2))
    stored = EDIT.after(model)
    assert stored.grown == (Grown(2, (0, 1)), Grown(1, (0, 0)))
    again = config_from_json(Clare, json.loads(json.dumps(asdict(stored))), "clare")
    assert again == stored
    other = vlm(seed=5)
    with pytest.raises(RuntimeError, match="Unexpected key"):
        other.load_state_dict(model.state_dict())
    again.apply(other)
    other.load_state_dict(model.state_dict())
    with torch.no_grad():
        assert torch.equal(other([tasks[1].tokens(3)]).hidden["text"], tasks[1].hidden(3))


def test_in_the_hand_it_wraps_the_conditioning():
    """The paper's best place, the projection of the observation, through the edits of a VLA."""
    edit = Clare(("expert.following.observation",), 32 + 5, 32)
    plain, made = vla(expert()), vla(expert(), edits=[edit])
    obs = observation()
    want = plain.act(obs, plain.start(obs.keys))[0].actions
    assert (made.act(obs, made.start(obs.keys))[0].actions == want).all()

    def loss(number: int) -> Tensor:
        return made.losses(batch(made.backbone, seed=number), Keys.seeded(2, "step", number))["action"].mean()

    assert learn(edit.wrapped(made), loss, 0.0, steps=5, fit=5) == [0]
    got = made.act(obs, made.start(obs.keys))[0].actions
    assert abs(got - want).max() > 1e-4
