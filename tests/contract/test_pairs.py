"""Any codec, expert, reasoner, streams, objectives and edits that fit build, learn a step and act, in pairs; those that
do not fit are refused when they are built. Methods of the catalogue are found: a new one is covered by being there."""

from __future__ import annotations

import importlib
import os
import pkgutil
import subprocess
import sys
from dataclasses import replace
from fnmatch import fnmatchcase
from itertools import combinations, permutations

import pytest
import torch

import mindhand.train
from mindhand.core.errors import BuildError
from mindhand.core.keys import Keys
from mindhand.core.seams import SLOTS, Code
from mindhand.methods import catalogue, compose, of_way
from mindhand.methods.see.depthvla import Depth
from mindhand.model import fits
from mindhand.model.codec import ChunkCodec
from mindhand.model.store import PARTS, load_vla, name_of
from mindhand.model.vla import VLA
from mindhand.recipes import bench_catalogue
from mindhand.recipes.covering import all_pairs, pairs_of
from mindhand.recipes.levels import ABSENT
from mindhand.recipes.pairs import (
    ON,
    acted,
    around,
    assembled,
    factors,
    learned,
    plain,
    refusal,
    results,
    rows,
    tried,
)
from mindhand.recipes.tiny import SPEC, fitted

from ..seams.build import observation
from .bases import BASES, HORIZON, examples, policy
from .bases import SPEC as BASE

DIFFUSION, FLOW = "unmoved former latter", "film all"
FOLLOWING = "film former latter all cascade"
MEANS = f"{DIFFUSION} {FLOW} cascade"  # hands that the mind conditions by two vectors
NUMBERS = f"{MEANS} tower pi0 oft act"
HANDS = r"(ActionExpert|Cascade|TokenExpert|TowerHand|Pi0Hand|OFT|ActHand) \(slot expert\)"
WALKED = rf"(DDIM|ODE|SDE) \(slot sampler\) needs 'expert/.*', which {HANDS} lacks"
HEARD = (
    r"(Memory|Summary|SaidActions) \((streams|objectives)\[0\]\) needs 'expert/hears the mind', "
    r"which (Cascade|ActHand) \(slot expert\) lacks"
)
# What does not fit, and why: levels of one factor and of another, and the refusal; "" where the two are at odds only
# because no hand is left for both.
REFUSED = (
    # a hand of numbers is told ids, one of ids is told numbers
    (
        "codec",
        "bins fast",
        "expert",
        NUMBERS,
        rf"{HANDS} needs 'codec/3 numbers.*, which (BinCodec|FAST) \(slot codec\)",
    ),
    (
        "codec",
        "chunks standard padded",
        "expert",
        "tokens",
        r"TokenExpert \(slot expert\) needs 'codec/256 ids', which (Chunk|Standard|Padded)Codec",
    ),
    # a sampler walks back what the hand has not learned: a flow, a diffusion, noise where it tells actions, nothing
    ("expert", f"{DIFFUSION} cascade", "sampler", "ode sde", WALKED),
    ("expert", f"{FLOW} former tower pi0", "sampler", "ddim", WALKED),
    ("expert", "tokens oft act", "sampler", "ddim ode sde", WALKED),
    ("codec", "bins fast", "sampler", "ddim ode sde", ""),
    # a hand that follows words, and nobody says any
    ("expert", FOLLOWING, "reasoner", ABSENT, r"(ActionExpert|Cascade) \(slot expert\) needs 'reasoning' and no other"),
    # a hand that is told words alone would hear more, and be no control; one that is told nothing hears nothing
    ("expert", "cascade act", "memoryvla", ON, HEARD),
    ("expert", "cascade act", "rs_cl", ON, HEARD),
    ("expert", "cascade act", "also learns", "say", HEARD),
    # only the hand in a tower sees the depth tower
    (
        "expert",
        f"{MEANS} tokens oft act",
        "depthvla",
        ON,
        rf"Depth \(streams\[0\]\) needs 'expert/attends.*, which {HANDS} lacks",
    ),
    ("codec", "bins fast", "depthvla", ON, ""),
    ("sampler", "ddim", "depthvla", ON, ""),
    # its encoder is made like the backbone's, which is none of that kind
    ("backbone", "vit", "depthvla", ON, "a depth encoder like ViTConfig"),
)
QUIET = ("VLM *.low*_in", "Cascade hand.prompt.*", "ActHand decoder.0.own.*")
REFUSALS = {
    ((f, a), (g, b)): words for f, left, g, right, words in REFUSED for a in left.split() for b in right.split()
}


@pytest.fixture(scope="module")
def found():
    """Every row of the covering array, tried."""
    return [tried(row) for row in rows()[0]]


def test_whatever_fits_builds_learns_and_acts(found):
    assert not [(one.row, one.why) for one in found if one.why]


def test_every_pair_is_tried_or_refused(found):
    covered = {pair for one in found for pair in pairs_of(one.row)}
    assert covered | set(rows()[1]) == set(all_pairs(factors())) and not covered & set(rows()[1])


def test_what_is_refused_is_what_is_stated():
    """Methods that the statement does not know may be refused beside a slot's occupant or another method, no more."""
    never, known = set(rows()[1]), {item for pair in REFUSALS for item in pair}
    known |= {
        (f, v) for f, levels in factors().items() for v in levels if f not in catalogue() and v not in catalogue()
    }
    assert set(REFUSALS) == {pair for pair in never if set(pair) <= known}
    assert {f for pair in never - set(REFUSALS) for f, _ in pair} <= {*SLOTS, *catalogue()}
    for name in of_way("plug"):  # and each is somewhere
        assert any(row.get(name) == ON or name in row.values() for row in rows()[0])


def test_what_is_refused_is_refused_by_the_policy_itself_with_the_names_of_both():
    for pair in rows()[1]:
        for row in around(pair):
            with pytest.raises(BuildError, match=REFUSALS.get(pair) or None):
                VLA(spec=SPEC, **assembled(row))


def test_every_part_that_a_checkpoint_can_name_is_among_them():
    """All that is registered or offered as an entry point occurs, and every objective of ours."""
    policies = [assembled(row) for row in rows()[0]]
    parts = [p for made in policies for x in made.values() for p in (x if isinstance(x, list) else [x])]
    own = {n for n in PARTS.names() if PARTS.get(n).config.__module__.startswith("mindhand.")}  # no test's
    assert len(own) > 20 and {name_of(p) for p in parts} >= own
    rooms = [importlib.import_module(f"mindhand.train.{m.name}") for m in pkgutil.iter_modules(mindhand.train.__path__)]
    rooms += [method.module for method in catalogue().values()]
    ours = {c for m in rooms for c in vars(m).values() if isinstance(c, type) and c.__module__ == m.__name__}
    assert {c for c in ours if hasattr(c, "replaces")} <= {type(p) for p in parts}


def test_every_parameter_learns_somewhere(found):
    """But what is quiet by construction: the inner half of a low-rank layer whose outer half is zero, what reads the
    prompt of a hand that hears none, and how the steps of ACT, all zeros at first, attend to each other."""
    every, reached = set(), set()
    for one in found:
        held = (one.vla.backbone, one.vla.expert, *one.vla.streams, *one.vla.objectives)
        every |= {(type(p).__name__, n) for p in held for n, _ in p.named_parameters()}
        reached |= one.reached
    quiet = {f"{part} {name}" for part, name in every - reached}
    assert quiet and not [q for q in quiet if not any(fnmatchcase(q, p) for p in QUIET)]


def test_records_are_computed_of_what_was_tried(found, tmp_path):
    pairs, methods = bench_catalogue.publish(tmp_path, found)
    assert pairs.value == methods.value == 1.0 and methods.n == len(of_way("plug"))
    there = [p for p in all_pairs(factors()) if p not in rows()[1] and ABSENT not in dict(p).values()]
    assert pairs.n == len(there) > 500
    first = replace(found[0], done=("built",), why="it does not learn")
    lines, _ = results([first, *found[1:]])
    broken = [line for line in lines if not line["works"]]
    own = [p for p in pairs_of(first.row) if ABSENT not in dict(p).values()]
    assert len(broken) == len(own) and all(line["built"] and not line["trained"] for line in broken)


# ---- what trying would find ----------------------------------------------------------------------------


class Unsaid(Depth):
    """A stream that does not say that only some hands see its tokens."""

    def __init__(self, config):
        super().__init__(config)
        self.needs = self.needs - {fits.SEES_ALL}


class Whisper(Unsaid):
    """One whose tokens nobody takes a gradient through either."""

    def forward(self, inputs, trunk, state):
        out = super().forward(inputs, trunk, state)
        return replace(out, segments=tuple(replace(s, x=s.x.detach()) for s in out.segments))


@pytest.mark.parametrize("kind", [Unsaid, Whisper])
def test_a_stream_that_is_nothing_to_the_hand_is_found(kind):
    parts = assembled({**plain("tower", "chunks"), "depthvla": ON})
    stream = kind(parts["streams"][0].config)
    hand = assembled(plain("latter", "chunks"))["expert"]
    vla = fitted(VLA(spec=SPEC, **{**parts, "streams": [stream], "expert": hand}))
    with pytest.raises(BuildError, match=rf"{kind.__name__} \(streams\[0\]\) is nothing to ActionExpert"):
        acted(vla)
    if kind is Whisper:
        with pytest.raises(BuildError, match=r"Whisper \(streams\[0\]\) learns nothing"):
            learned(vla)


def test_a_loss_that_is_not_finite_and_a_chunk_of_another_shape_are_found():
    vla = fitted(VLA(spec=SPEC, **assembled(plain("latter", "chunks"))))
    acted(vla)
    decode = vla.codec.decode
    vla.codec.decode = lambda code, state: decode(Code(code.values[:, :-1], code.valid[:, :-1]), state)
    with pytest.raises(BuildError, match=r"a chunk \(2, 3, 3\)"):
        acted(vla)
    with torch.no_grad():
        vla.expert.position.fill_(torch.nan)
    with pytest.raises(BuildError, match=r"\['action'\] that are not finite"):
        learned(vla)


def test_a_row_that_fails_says_where():
    assert tried({**plain("tokens", "chunks")}).why.startswith("BuildError: TokenExpert")
    assert tried(plain("tokens", "bins")).done == ("built", "trained", "acted")


# ---- methods with methods ------------------------------------------------------------------------------


def whole(base, names):
    """The parts of a base with these methods."""
    return compose(BASES[base](), BASE, names)


@pytest.mark.parametrize("base", BASES)
def test_methods_of_one_base_go_together_in_either_order_or_name_each_other(base):
    """What two of them do beside each other is in the array; here, whether their order decides that they may."""
    mine = [name for name, method in of_way("plug").items() if method.card.base == base]
    for pair in combinations(mine, 2):
        one, other = (refusal(lambda names=names: whole(base, names)) for names in permutations(pair))
        assert (one is None) == (other is None), pair
        if one is not None:
            assert all(f"'{name}'" in str(error) for name in pair for error in (one, other)), str(one)
    some: list[str] = []  # as many as go together, the last of the catalogue first
    for name in reversed(mine):
        more = [*some, name]
        some = more if refusal(lambda names=more: whole(base, names)) is None else some
    assert not mine or some
    vla = policy(whole(base, some))
    b = examples(vla.backbone, 3)
    losses = vla.losses(b, Keys.seeded(len(b), 0))
    sum(x.sum() for x in losses.values()).backward()
    assert "action" in losses and all(bool(torch.isfinite(x).all()) for x in losses.values())
    obs = observation(("pick",) * 2)
    assert vla.eval().act(obs, vla.start(obs.keys))[0].actions.shape == (2, HORIZON, BASE.action_size)


def test_two_methods_for_one_slot_are_refused_by_name():
    assert "'oft', after 'fast': OFT in the place of FAST (slot codec)" in str(
        refusal(lambda: whole("tokens", ["fast", "oft"]))
    )
    assert "'fast', after 'oft': FAST in the place of" in str(refusal(lambda: whole("tokens", ["oft", "fast"])))
    twice = refusal(lambda: whole("flow", ["memoryvla", "memoryvla"]))
    assert "Memory (streams[0]) and Memory (streams[1]) both provide 'memory'" in str(twice)


def test_two_methods_that_only_put_themselves_into_one_slot_are_refused_too(monkeypatch):
    """Neither looks at what it replaces."""
    for name in ("fast", "oft"):
        module = catalogue()[name].module
        monkeypatch.setattr(module, "plug", lambda parts, spec: {**parts, "codec": ChunkCodec(spec)})
    with pytest.raises(BuildError, match="'fast' and 'oft' both put something into the slot 'codec'"):
        whole("tokens", ["fast", "oft"])


# ---- methods of other packages -------------------------------------------------------------------------

FOREIGN = """
from dataclasses import dataclass
import torch
from mindhand.core.parts import Entry
from mindhand.core.seams import Segment, StreamOut
from mindhand.model import fits

@dataclass(frozen=True)
class Config:
    width: int
    count: int = 2

class Touch(torch.nn.Module):
    part_name, feeds, provides = "far_touch", "expert", frozenset({"touch"})

    def __init__(self, config):
        super().__init__()
        self.config, self.needs = config, frozenset({fits.tokens(config.width)})
        self.enter = torch.nn.Linear(3, config.count * config.width)

    def start(self, rows):
        return {}

    def forward(self, inputs, trunk, state):
        x = self.enter(inputs.state[:, -1, 2:]).unflatten(-1, (self.config.count, -1))
        ones = torch.ones(x.shape[:2], dtype=torch.bool)
        return StreamOut((Segment("touch", x, ones, torch.zeros(*x.shape[:2], 3, dtype=torch.int64)),), state)

PART = Entry("far_touch", Config, lambda config, **_: Touch(config))
"""
USE = """
import sys
from pathlib import Path
from mindhand.core.checkpoint import load_checkpoint, smoke_differences
from mindhand.model.store import PARTS, load_vla, save_vla, smoke_arrays
from mindhand.model.vla import VLA
from mindhand.recipes.pairs import acted, assembled, learned, plain
from mindhand.recipes.tiny import SPEC, WIDTH, fitted, observation

folder = Path(sys.argv[2])
if sys.argv[1] == "save":
    from far_touch import Config, Touch
    parts = assembled(plain("latter", "chunks"))
    vla = fitted(VLA(spec=SPEC, **{**parts, "streams": [Touch(Config(WIDTH))]}))
    assert ("Touch", "enter.weight") in learned(vla)
    acted(vla)
    save_vla(vla, folder, smoke=observation())
else:
    assert "far_touch" in PARTS.names() and "far_touch" not in sys.modules
    again = load_vla(folder, SPEC)
    assert type(again.streams[0]).__module__ == "far_touch"
    assert not smoke_differences(load_checkpoint(folder, SPEC).smoke, smoke_arrays(again, observation()), 0.0)
"""


def test_a_part_of_another_package_is_built_saved_and_loaded_by_name(tmp_path):
    """By processes of their own, as an installed distribution; without it the checkpoint is refused, and says why."""
    home = tmp_path / "site"
    info = home / "far_touch-1.0.dist-info"
    info.mkdir(parents=True)
    (home / "far_touch.py").write_text(FOREIGN)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: far-touch\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[mindhand.parts]\nfar_touch = far_touch:PART\n")
    for step in ("save", "load"):
        done = subprocess.run(
            [sys.executable, "-c", USE, step, str(tmp_path / "checkpoint")],
            env={**os.environ, "PYTHONPATH": str(home)},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
    with pytest.raises(BuildError, match="unknown part 'far_touch'"):
        load_vla(tmp_path / "checkpoint", SPEC)
