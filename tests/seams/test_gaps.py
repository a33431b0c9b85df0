"""What a seam does not carry yet. Every test says what should hold and is expected to fail, strictly: whoever mends
a gap finds the test passing, takes its mark away and moves it to where the thing is tested."""

from __future__ import annotations

import inspect
import random
from dataclasses import asdict, dataclass, replace
from typing import Literal

import pytest
import torch
from torch import Tensor, nn

from mindhand.core.errors import Refusal
from mindhand.core.keys import Keys
from mindhand.core.parts import config_from_json
from mindhand.core.seams import (
    Code,
    Codec,
    Context,
    Entry,
    Inputs,
    Segment,
    State,
    StreamOut,
    Trunk,
    grid_position,
    text_position,
)
from mindhand.model.diffusion import DDIM, ODE, SDE, Diffusion
from mindhand.model.eyes import EyeConfig, Gaze, GazeConfig, WristEye
from mindhand.model.moe import MoEConfig, Upcycle
from mindhand.model.norm import RMSNorm
from mindhand.model.store import load_vla, save_vla
from mindhand.model.trunk import TowerConfig
from mindhand.model.vlm import VLM, VLMConfig
from mindhand.serve.rows import put_rows

from ..model.tiny import expert, segments, vlm, words
from .build import batch, close, observation, vla
from .test_clare import EDIT, world
from .test_depthvla import DEEP, MASK, Towers
from .test_depthvla import world as depth_world
from .test_memoryvla import Memory, MemoryConfig
from .test_oft import OFT


def gap(reason: str, *raises: type[BaseException]):
    """Expected to fail, with an assertion or with one of `raises`; a pass is an error."""
    return pytest.mark.xfail(strict=True, raises=(AssertionError, *raises), reason=reason)


def context(model=None) -> Context:
    model = model or vlm()
    return Context(model(segments(model)[0]), {}, Inputs({}, {}, torch.ones(2, 1, 5)))


def run_of(name: str, n: int, start: int, rows: int = 2) -> Segment:
    valid = torch.ones(rows, n, dtype=torch.bool)
    return Segment(name, torch.randn(rows, n, 32), valid, text_position(valid, start))


# ---- the trunk -------------------------------------------------------------------------------------------


@gap("Trunk.hidden does not say whose width a segment has: the heart's hand pools all of them", RuntimeError)
def test_the_heart_s_hand_beside_a_second_tower():
    """A depth tower in the trunk, DepthVLA's, and the hand that comes with the VLA."""
    model, mind, depth, _, _ = depth_world()
    hand = expert()
    trunk = model([*mind, depth], rule=MASK)
    noised = hand.corrupt(Code(torch.zeros(2, 4, 3), torch.ones(2, 4, dtype=torch.bool)), Keys.seeded(2))
    assert hand.predict(Context(trunk, {}, Inputs({}, {}, torch.ones(2, 1, 5))), noised).shape == (2, 4, 3)


@gap("extend falls back to the causal rule, so that generate, which has no rule, lets words see the depth tower")
def test_a_pass_goes_on_by_the_rule_it_began_with():
    model, mind, depth, _, _ = depth_world()
    with torch.no_grad():
        blind = model(mind[:2]).extend([mind[2]]).hidden["reasoning"]
        close(model([*mind[:2], depth], rule=MASK).extend([mind[2]]).hidden["reasoning"], blind)


@gap("states of a continued segment are replaced, hidden states are joined")
def test_kept_layers_of_a_continued_segment_are_joined():
    model = vlm()
    trunk = model([run_of("text", 5, 0)], want=(1,)).extend([run_of("text", 1, 5)], want=(1,))
    assert trunk.layer(1, "text").shape == trunk.hidden["text"].shape


@gap("a forked trunk keeps the layers that were wanted, but not their queries")
def test_a_fork_keeps_the_queries():
    model = vlm()
    assert 1 in model(segments(model)[0], want=(1,)).fork(2).queries


@gap("validity is shared by id(), and the ids of freed tensors come back", Refusal, RuntimeError)
def test_a_continued_segment_can_be_pruned_at_many_layers():
    torch.manual_seed(0)
    model = VLM(VLMConfig(TowerConfig(32, 24, 4, 2, 8, 32, theta=1e4, sections=(2, 1, 1)), 9))
    rng, junk = random.Random(0), []

    def keep(l: int, name: str, attention: Tensor) -> Tensor:
        junk.extend(torch.zeros(1) for _ in range(rng.randrange(6)))
        if rng.random() < 0.5:
            junk.clear()
        return torch.arange(attention.shape[1] - 1).expand(1, -1)

    with torch.no_grad():
        for _ in range(60):
            trunk = model([run_of("text", 5, 0, 1)]).extend([run_of("text", 30, 5, 1)], keep=keep)
            assert all(layer[0].k.shape[2] == layer[0].valid.shape[1] for layer in trunk.cache)


@gap("hide wants one shape for the prefix's part of a segment and for its continuation", Refusal)
def test_a_continued_segment_can_be_hidden():
    past = vlm()([run_of("text", 5, 0), run_of("reasoning", 3, 5)])
    more = [run_of("reasoning", 2, 8), run_of("action", 2, 10)]
    past.extend(more, hide={"reasoning": torch.zeros(2, 5, dtype=torch.bool)})


@gap("`end` reads the position of the first segment's first token", IndexError)
def test_the_first_segment_may_be_empty():
    vlm()([run_of("latent", 0, 0), run_of("text", 3, 0)])


@gap("a replacement of the FFN is told the task of its tokens, but not which of them are padding")
def test_an_ffn_that_looks_at_its_row_can_leave_padding_out():
    """CLARE routes a sample by the mean over its tokens; junk behind `valid` must not route it elsewhere."""
    model, _, tasks = world(2)
    s, junk = tasks[0].tokens(99), [tasks[1].tokens(i).x for i in range(20)]
    wide = replace(
        s,
        x=torch.cat([s.x, *junk], 1),
        valid=torch.cat([s.valid, *[torch.zeros_like(s.valid)] * 20], 1),
        position=torch.cat([s.position] * 21, 1),
    )
    with torch.no_grad():
        close(model([wide]).hidden["text"][:, : s.x.shape[1]], model([s]).hidden["text"])


@gap("the CPU's own norm narrows to float32 and refuses float64", RuntimeError)
def test_norms_in_double_precision():
    x = torch.randn(2, 8, dtype=torch.float64)
    RMSNorm(8, 1e-6).double()(x)


@gap("the hand's blocks have no site between attention and MLP, a ViT's none but its output")
def test_every_block_has_the_promised_sites():
    names = {n for n, m in expert().blocks[0].named_modules() if isinstance(m, nn.Identity)}
    assert {"attn.out", "out"} <= {n.replace("_", ".") for n in names}


@gap("new words are the mean only where the embedding has no spare rows")
def test_new_words_in_a_padded_vocabulary():
    w = words()
    torch.manual_seed(0)
    model = VLM(VLMConfig(TowerConfig(32, 2, 4, 2, 8, 64, sections=(2, 1, 1)), len(w) + 8), w)
    mean = model.embedding.weight[: len(w)].mean(0)
    close(model.embedding.weight[model.add_words(["<new>"])[0]], mean, 1e-3)


# ---- hands, samplers, codecs -----------------------------------------------------------------------------


def test_a_sample_is_named_by_its_key_and_number():
    hand, ctx = expert(), context()
    with torch.no_grad():
        one, three = (hand.draw(ctx, s, keys=Keys.seeded(2)).value for s in (1, 3))
        close(one[:, 0], three[:, 0])


@gap("a step that is stochastic in one row only is computed twice in all")
def test_the_hybrid_calls_the_network_once_a_step():
    calls = []

    def step(x: Tensor, t: Tensor) -> Tensor:
        calls.append(len(x))
        return -x

    draw = SDE(count=4, one=True)(step, torch.randn(2, 1, 4, 3), keys=Keys.seeded(2))
    assert len(calls) == 4
    calls.clear()
    draw.sampler.log_prob(step, draw)  # one transition a row: paper 2510.25889 halves its update's time by it
    assert len(calls) == 1


@gap("a stride of zero never leaves the first step", pytest.fail.Exception)
def test_more_ddim_steps_than_the_process_has_are_refused():
    with pytest.raises(Refusal):
        DDIM(Diffusion(10), count=20)(lambda x, t: x, torch.randn(1, 1, 4, 3), keys=Keys.seeded(1))


@gap("the heart's hand reads no keys and values of streams, and does not say so")
def test_a_stream_of_keys_and_values_is_used_or_refused():
    hand, ctx = expert(), context()
    entry = Entry("memory", torch.randn(2, 2, 3, 16), torch.randn(2, 2, 3, 16), torch.ones(2, 3, dtype=torch.bool))
    noised = hand.corrupt(Code(torch.zeros(2, 4, 3), torch.ones(2, 4, dtype=torch.bool)), Keys.seeded(2))
    plain = hand.predict(ctx, noised)
    try:
        given = hand.predict(replace(ctx, streams={"m": StreamOut((), entries=((entry,),) * 4)}), noised)
    except Refusal:
        return
    assert not torch.equal(plain, given)


@gap("VLA stores a codec's statistics through methods that the protocol does not have")
def test_the_codec_protocol_has_statistics():
    assert {"statistics", "load_statistics"} <= {n for n, _ in inspect.getmembers(Codec)}


@gap("propose makes the noise itself, from a config that the Expert protocol does not have", AttributeError)
def test_any_expert_can_propose():
    made, obs = vla(OFT()), observation()
    assert made.propose(obs, made.start(obs.keys), 2)[0].actions.shape == (2, 2, 4, 3)


@gap("the reasoning of a forked context keeps B texts for B x S rows")
def test_a_forked_context_forks_its_reasoning():
    from mindhand.core.nouns import Reasoning

    assert len(replace(context(), reasoning=Reasoning(("a", "b"))).fork(3).reasoning) == 6


# ---- the VLA ---------------------------------------------------------------------------------------------


class Depth(nn.Module):
    """Tokens for the trunk, before it runs."""

    to: Literal["trunk"] = "trunk"

    def __init__(self) -> None:
        super().__init__()
        self.enter = nn.Conv2d(3, DEEP, 8, 8)

    def start(self, rows: int) -> State:
        return {}

    def forward(self, inputs: Inputs, trunk: Trunk | None, state: State) -> StreamOut:
        assert trunk is None
        x = self.enter(inputs.pixels["front"][:, -1])
        grid = (1, *x.shape[-2:])
        x = x.flatten(2).transpose(1, 2)
        return StreamOut((Segment("depth", x, torch.ones(x.shape[:2]).bool(), grid_position(len(x), grid), "depth"),))


@gap("run_streams never looks at `to`: a stream to the trunk runs behind it, and its tokens go to the hand")
def test_streams_to_the_trunk_run_before_it():
    made = vla(OFT(), streams=[Depth()], edits=[Towers()])
    assert "depth" in made.context(batch(made.backbone)).trunk.hidden


@gap("in training a stream's state is {}, not what start(rows) gave", KeyError)
def test_streams_with_state_are_started_in_training():
    made = vla(expert(), streams=[Memory(MemoryConfig(trunk=32, width=32, tokens=8))])
    assert "action" in made.losses(batch(made.backbone), Keys.seeded(2))


def test_decodings_that_were_replaced_are_counted_in_the_chunk():
    made, obs = vla(expert()), observation()
    assert "errors" in made.act(obs, made.start(obs.keys))[0].extra


@gap(
    "what is wanted of a draw does not reach it, and inference mode would make its chain useless",
    KeyError,
    RuntimeError,
)
def test_a_rollout_can_be_trained_on():
    """pi_RL keeps the chain that a policy drew while it acted, and differentiates its density later."""
    made, obs = vla(expert(process="flow"), sampler=SDE(count=2)), observation()
    draw = made.act(obs, made.start(obs.keys), want=("draw", "chain"))[0].extra["draw"]
    made.expert.log_prob(made.context(batch(made.backbone)), draw).value.sum().backward()


@gap("acting gives no task to the trunk, and generating none to its words", Refusal)
def test_static_experts_can_act():
    made, obs = vla(expert(), edits=[Upcycle(MoEConfig(mixture="static+dynamic"))]), observation()
    made.act(obs, made.start(obs.keys))


@gap("Inputs carry neither extras nor time nor the prompt's patches")
def test_extras_of_an_observation_reach_the_streams():
    """Depth in metres, points, tactile: what an Observation carries for methods of the first room."""
    import numpy as np

    made, obs = vla(expert()), observation()
    deep = replace(obs, extras={"depth/front": np.ones((2, 1, 32, 32), np.float32)})
    assert "depth/front" in made.prepare(deep).more


def test_a_gaze_s_state_can_be_joined_by_row():
    model = vlm()
    torch.manual_seed(0)
    gaze = Gaze(GazeConfig(trunk=32, grid=(2, 4), picture=(32, 32), width=32, size=16))
    pixels = {"front": torch.rand(2, 1, 3, 32, 32)}
    inputs = Inputs(pixels, {"front": torch.ones(2, dtype=torch.bool)}, None)
    after = gaze(inputs, model(segments(model)[0]), gaze.start(2)).state
    assert put_rows(after, gaze.start(2), [0], 2) is not None


@gap("no checkpoint names the sampler: what is loaded draws by the default, silently", Refusal)
def test_a_checkpoint_keeps_the_sampler(tmp_path):
    """Stored or refused; never another chunk than the model that was saved."""
    made, obs = vla(expert(process="flow"), sampler=ODE(count=1)), observation()
    try:
        save_vla(made, tmp_path / "checkpoint")
    except Refusal:
        return
    again = load_vla(tmp_path / "checkpoint")
    a, b = (m.act(obs, m.start(obs.keys))[0].actions for m in (made.eval(), again))
    assert abs(a - b).max() < 1e-5


@gap("store asks every Edit but one for a config, and an Edit is its own", AttributeError)
def test_an_edit_of_a_method_can_be_stored(tmp_path):
    from mindhand.core.parts import Entry as Named
    from mindhand.model.store import PARTS

    @dataclass(frozen=True)
    class Nothing:
        part_name = "nothing_at_all"

        def apply(self, vla: nn.Module) -> None:
            pass

    PARTS.add(Named("nothing_at_all", Nothing, lambda config, **_: config))
    save_vla(vla(expert(), edits=[Nothing()]), tmp_path / "checkpoint")


@gap("a Config's tuple of Configs is built from JSON only, not from what describe() gives")
def test_described_parts_can_be_built_without_a_file():
    grown = EDIT.after(world(1)[0])
    assert config_from_json(type(grown), asdict(grown), "clare") == grown


def test_the_gaps_use_real_parts():
    """The parts above do work where nothing stands in their way, so that it is the gap that fails."""
    made, obs = vla(OFT()), observation()
    assert made.act(obs, made.start(obs.keys))[0].actions.shape == (2, 4, 3)
    eye = WristEye(EyeConfig(16, 32))
    assert eye.start(2) == {}
