"""What methods need of the VLA: streams to the trunk, states, what a chunk brings, what a checkpoint keeps."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mindhand.core.batch import Batch, Target
from mindhand.core.errors import BadCheckpoint, BuildError, Refusal
from mindhand.core.keys import Keys
from mindhand.core.parts import Entry as Named
from mindhand.core.seams import Context, Inputs, Segment, State, StreamOut, Trunk, grid_position
from mindhand.methods.see.memoryvla import Config, Memory
from mindhand.model.diffusion import DDIM, ODE, SDE, Diffusion
from mindhand.model.eyes import EyeConfig, Gaze, GazeConfig, WristEye
from mindhand.model.moe import MoEConfig, Upcycle
from mindhand.model.store import PARTS, load_vla, save_vla
from mindhand.serve.rows import put_rows

from ..methods.test_depthvla import DEEP, TOWERS
from ..model.tiny import expert, segments, vlm
from .build import batch, close, observation, oft, vla


class Depth(nn.Module):
    """Tokens for the trunk, before it runs."""

    feeds: Literal["trunk"] = "trunk"

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


def test_streams_to_the_trunk_run_before_it():
    made = vla(oft(), streams=[Depth()], edits=list(TOWERS))
    assert "depth" in made.context(batch(made.backbone)).trunk.hidden


def test_streams_with_state_are_started_in_training():
    made = vla(expert(), streams=[Memory(Config(32, 32, 8, 10.0, perceptual=16, squeeze=4))])
    assert "action" in made.losses(batch(made.backbone), Keys.seeded(2))


def test_decodings_that_were_replaced_are_counted_in_the_chunk():
    made, obs = vla(expert()), observation()
    assert "errors" in made.act(obs, made.start(obs.keys))[0].extra


def test_a_rollout_can_be_trained_on():
    """pi_RL keeps the chain that a policy drew while it acted, and differentiates its density later."""
    made, obs = vla(expert(process="flow"), sampler=SDE(count=2)), observation()
    draw = made.act(obs, made.start(obs.keys), want=("draw", "chain"))[0].extra["draw"]
    made.expert.log_prob(made.context(batch(made.backbone)), draw).value.sum().backward()


def test_static_experts_can_act():
    made, obs = vla(expert(), edits=[Upcycle(MoEConfig(mixture="static+dynamic"))]), observation()
    made.act(obs, made.start(obs.keys))


def test_extras_of_an_observation_reach_the_streams():
    """Depth in metres, points, tactile: what an Observation carries for methods of the first room."""
    made, obs = vla(expert()), observation()
    deep = replace(obs, extras={"depth/front": np.ones((2, 1, 32, 32), np.float32)})
    assert "depth/front" in made.prepare(deep).more


def test_extras_reach_the_streams_in_training_under_the_same_names():
    """Whoever acts on points must have been trained on points: a stream asks for one name."""
    made, obs = vla(expert()), observation()
    points = torch.rand(2, 1, 7, 3)
    told = {"extra/points": Target(points, torch.ones(2, dtype=torch.bool))}
    trained = made.inputs(batch(made.backbone, targets=told, embodiment=torch.tensor([0, 1]))).more
    acted = made.prepare(replace(obs, extras={"points": points.numpy()})).more
    assert torch.equal(trained["points"], acted["points"])
    assert trained["embodiment"].tolist() == [0, 1]


def test_a_gaze_s_state_can_be_joined_by_row():
    model = vlm()
    torch.manual_seed(0)
    gaze = Gaze(GazeConfig(layer=0, grid=(2, 4), picture=(32, 32), width=32, state=10, size=16))
    pixels = {"front": torch.rand(2, 1, 3, 32, 32)}
    inputs = Inputs(pixels, {"front": torch.ones(2, dtype=torch.bool)}, torch.zeros(2, 1, 10))
    after = gaze(inputs, model(segments(model)[0], want=gaze.want), gaze.start(2)).state
    assert put_rows(after, gaze.start(2), [0], 2) is not None


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


def test_an_edit_of_a_method_can_be_stored(tmp_path):
    @dataclass(frozen=True)
    class Nothing:
        part_name = "nothing_at_all"

        def apply(self, vla: nn.Module) -> None:
            pass

    PARTS.add(Named("nothing_at_all", Nothing, lambda config, **_: config))
    save_vla(vla(expert(), edits=[Nothing()]), tmp_path / "checkpoint")


class Latent(nn.Module):
    """Stream: one token of the mind's width, that counts its queries; `rule` as given."""

    feeds: Literal["trunk"] = "trunk"

    def __init__(self, rule=(), name: str = "latent", far: int = 0) -> None:
        super().__init__()
        self.word, self.rule, self.name, self.far = nn.Parameter(torch.randn(32)), rule, name, far

    def start(self, rows: int) -> State:
        return {"count": torch.zeros(rows, 1)}

    def forward(self, inputs: Inputs, trunk: Trunk | None, state: State) -> StreamOut:
        assert trunk is None
        x = (self.word + state["count"]).unsqueeze(1)
        ones = torch.ones(x.shape[:2], dtype=torch.bool)
        place = torch.full((*ones.shape, 3), self.far, dtype=torch.int64)
        loss = {f"{self.name}/size": x.pow(2).mean((1, 2))}
        return StreamOut((Segment(self.name, x, ones, place),), {"count": state["count"] + 1}, loss, rule=self.rule)


def test_a_stream_to_the_trunk_trains_acts_and_remembers():
    """Its losses are collected, its tokens reach the chunk, its state goes on; the hand is not given them again."""
    made, obs = vla(expert(), streams=[Latent()]), observation()
    losses = made.losses(batch(made.backbone), Keys.seeded(2))
    assert "latent/size" in losses
    losses["action"].sum().backward()
    assert made.streams[0].word.grad.abs().max() > 0
    state = made.start(obs.keys)
    chunk, after = made.act(obs, state)
    assert after["streams"]["0/Latent"]["count"].tolist() == [[1.0], [1.0]]
    assert put_rows(after, made.start(obs.keys), [1], 2) is not None
    later = made.act(obs, {**after, "query": state["query"]})[0]  # the same noise
    assert abs(later.actions - chunk.actions).max() > 1e-5
    ctx = made.act(obs, state, want=("context",))[0].extra["context"]
    assert "latent" in ctx.trunk.hidden and ctx.streams["0/Latent"].segments == ()
    text = Batch((), {}, {}, {"text": made.backbone.words.questions(["pick"])}, torch.zeros(1).long())
    text = replace(text, images={"front": torch.zeros(1, 1, 32, 32, 3, dtype=torch.uint8)})
    text = replace(text, present={"front": torch.ones(1, dtype=torch.bool)}, order=("text",))
    assert "latent" in made.context(text).trunk.hidden  # on image-text rows too, and in chat
    picture = np.zeros((1, 32, 32, 3), np.uint8)
    said, lengths = made.answer(picture, [["what?"]], limit=3), []
    made.backbone.towers["vlm"].layers[0].out.register_forward_hook(lambda m, i, o: lengths.append(o.shape[1]))
    assert made.answer(picture, [["what?"]], limit=3) == said and lengths[0] == 8 + 1


def test_training_and_acting_place_a_stream_alike():
    """One observation, as a batch and as acted on: the same hidden states."""
    made, obs = vla(expert("none"), streams=[Latent(far=30)]), observation()
    b = batch(made.backbone, obs.text["instruction"])
    b = replace(b, images={"front": torch.from_numpy(obs.images["front"])}, state=torch.from_numpy(obs.state))
    trained, acted = made.context(b).trunk, made.think(obs, made.start(obs.keys))[0].trunk
    assert list(trained.hidden) == list(acted.hidden) == ["image/front", "latent", "text"]
    for name, x in trained.hidden.items():
        valid = trained.valid[name]
        close(x[valid].detach(), acted.hidden[name][valid])
    assert torch.equal(trained.end, acted.end) and int(trained.end.min()) > 31  # the text begins behind it


def test_the_order_of_a_batch_places_a_stream():
    made = vla(expert(), streams=[Latent()])
    b = batch(made.backbone)
    base, late = made.context(b).trunk, made.context(replace(b, order=("text", "latent"))).trunk
    assert list(late.hidden) == ["image/front", "text", "latent"]
    with torch.no_grad():
        made.streams[0].word += 1
    moved, blind = made.context(b).trunk, made.context(replace(b, order=("text", "latent"))).trunk
    assert (moved.hidden["text"] - base.hidden["text"]).abs().max() > 1e-3
    assert torch.equal(late.hidden["text"], blind.hidden["text"])


def test_several_questions_share_a_stream_s_tokens():
    made = vla(expert(), streams=[Latent()])
    one = batch(made.backbone, ("pick", "what is on the board?"))
    picture = {"front": one.images["front"][:1]}
    text = {"text": made.backbone.words.questions(("pick", "what is on the board?"))}
    on = {"front": torch.ones(1, dtype=torch.bool)}
    packed = Batch(("text",), picture, on, text, torch.zeros(2).long(), questions=2)
    copies = Batch(("text",), {"front": picture["front"].expand(2, -1, -1, -1, -1)}, {"front": on["front"].expand(2)},
                   text, torch.zeros(2).long())  # fmt: skip
    a, b = made.context(packed).trunk, made.context(copies).trunk
    valid = text["text"].valid
    for q in range(2):
        count = int(valid[q].sum())  # a question's run ends with it
        close(a.hidden[f"text@{q}"][0, :count].detach(), b.hidden["text"][q, :count].detach())
    with pytest.raises(BuildError, match="questions"):
        made.context(replace(packed, order=("text", "latent")))


def test_a_stream_s_rule_comes_before_the_backbone_s():
    """Training, acting, and whatever is written on top of the pass."""
    obs = observation()
    for rule, deaf in (((("text", "latent", "none"), ("reasoning", "latent", "none")), True), ((), False)):
        made = vla(expert(), streams=[Latent(rule)])
        say = made.backbone.words.answers(("3+4=7.", "7"))
        out = []
        for shift in (0.0, 1.0):
            with torch.no_grad():
                made.streams[0].word += shift
            acted = made.think(obs, made.start(obs.keys))[0].trunk
            more = acted.extend([made.backbone.text("reasoning", say.ids, say.valid, acted.end)])
            out.append([made.context(batch(made.backbone)).trunk.hidden["text"], acted.hidden["text"],
                        more.hidden["reasoning"]])  # fmt: skip
        assert all(torch.equal(a, b) == deaf for a, b in zip(*out))


def test_whom_a_stream_feeds_must_be_said():
    nobody = Latent()
    nobody.feeds = "hand"
    with pytest.raises(BuildError, match="feeds 'hand'"):
        vla(expert(), streams=[nobody])


def test_every_objective_has_keys_of_its_own():
    class Noise(nn.Module):
        replaces: frozenset[str] = frozenset()

        def __init__(self, name: str) -> None:
            super().__init__()
            self.name = name

        def loss(self, vla: nn.Module, batch: Batch, ctx: Context, keys: Keys) -> dict[str, Tensor]:
            return {self.name: torch.from_numpy(keys.uniform())}

        def after_step(self, vla: nn.Module, step: int) -> None:
            pass

    made = vla(expert(), objectives=[Noise("a"), Noise("b")])
    b = batch(made.backbone)
    x, same, other = (made.losses(b, Keys.seeded(2, "step", i)) for i in (0, 0, 1))
    assert torch.equal(x["a"], same["a"]) and not torch.equal(x["a"], other["a"]) and not torch.equal(x["a"], x["b"])


def test_words_are_written_by_the_row_s_expert():
    """Static experts: a robot's query is written by the robot's, a chat by the image-text ones."""
    from mindhand.model.reasoner import ReasonerConfig, WordsReasoner

    read = WordsReasoner(ReasonerConfig(limit=3), lambda text: None)
    edit = Upcycle(MoEConfig(4, mixture="static+dynamic"))
    made, obs = vla(expert(), reasoner=read, edits=[edit]), observation()
    picture = np.zeros((1, 32, 32, 3), np.uint8)

    def both() -> tuple:
        ctx = made.think(obs, {**made.start(obs.keys), "forced": ("7", "pick")})[0]
        free = made.think(obs, made.start(obs.keys))[0]  # written token by token
        assert free.trunk.task.tolist() == [1, 1] and len(free.reasoning.texts) == 2
        seen = []
        hook = made.backbone.towers["vlm"].norm.register_forward_hook(lambda m, i, o: seen.append(o))
        made.answer(picture, [["what?"]], limit=2)
        hook.remove()
        return ctx.trunk.hidden["reasoning"], torch.cat(seen, 1)

    robot, chat = both()
    for task, moves in ((0, (False, True)), (1, (True, False))):
        with torch.no_grad():
            for block in made.backbone.towers["vlm"].layers:
                block.ffn.static.each[task].down.weight += 1
        a, b = both()
        assert (not torch.equal(robot, a), not torch.equal(chat[:, :5], b[:, :5])) == moves
        robot, chat = a, b


def test_a_stream_s_tokens_have_their_row_s_task():
    """Static experts beside a stream to the trunk: in training, acting and chat."""
    edit = Upcycle(MoEConfig(4, mixture="static+dynamic"))
    made, obs = vla(expert("none"), streams=[Latent()], edits=[edit]), observation()
    seen = []
    ffn = made.backbone.towers["vlm"].layers[0].ffn
    ffn.register_forward_hook(lambda m, args, out: seen.append(args[1]))
    made.losses(batch(made.backbone, task=torch.tensor([1, 0])), Keys.seeded(2))
    made.act(obs, made.start(obs.keys))
    made.answer(np.zeros((1, 32, 32, 3), np.uint8), [["what?"]], limit=1)
    assert [t.unique(dim=1).tolist() for t in seen[:3]] == [[[1], [0]], [[1], [1]], [[0]]]


def test_what_rides_along_in_training():
    made = vla(expert())
    gaze = Target(torch.ones(2, 2), torch.ones(2, dtype=torch.bool))
    b = batch(made.backbone, episode=torch.tensor([3, 4]), step=torch.tensor([7, 8]), targets={"gaze": gaze, "x": gaze})
    more = made.inputs(b).more
    assert sorted(more) == ["episode", "gaze", "step"] and more["step"].tolist() == [7, 8]
    assert made.inputs(b).fork(2).more["episode"].tolist() == [3, 3, 4, 4]
    assert made.inputs(batch(made.backbone)).more == {}
    obs = observation()
    assert made.prepare(replace(obs, time=obs.time + 2.5)).more["time"].tolist() == [[2.5], [2.5]]


def test_what_is_wanted_of_a_draw():
    made, obs = vla(expert()), observation()
    extra = made.act(obs, made.start(obs.keys), want=("draw",))[0].extra
    assert extra["draw"].chain == () and extra["errors"].tolist() == [0, 0]
    assert made.act(obs, made.start(obs.keys), want=("chain",))[0].extra["draw"].chain
    assert "draw" not in made.act(obs, made.start(obs.keys))[0].extra


def test_what_is_wanted_of_proposals():
    """Best of several needs of each what a policy gradient and a verifier need: the draw, what it was drawn from."""
    made, obs = vla(expert(process="flow"), sampler=SDE(count=2)), observation()
    plain, _ = made.propose(obs, made.start(obs.keys), 3)
    told, _ = made.propose(obs, made.start(obs.keys), 3, want=("chain", "context"))
    assert set(plain.extra) == {"errors"} and set(told.extra) == {"errors", "draw", "context"}
    assert np.array_equal(plain.actions, told.actions)
    density = made.expert.log_prob(told.extra["context"], told.extra["draw"])
    assert density.value.shape[:2] == (2, 3) and density.value.requires_grad


@pytest.mark.parametrize(
    ("process", "sampler"),
    [
        ("diffusion-action", DDIM(Diffusion(predicts="action"), count=5, clip=None)),
        ("flow", SDE(count=3, level=0.2, one=True)),
        ("flow", ODE(count=1)),
    ],
)
def test_samplers_are_stored_as_they_are(tmp_path, process, sampler):
    made = vla(expert(process=process), sampler=sampler)
    save_vla(made, tmp_path / "checkpoint")
    assert load_vla(tmp_path / "checkpoint").sampler == sampler


def test_a_sampler_or_transform_without_a_name_is_refused(tmp_path):
    class Blur:
        def train(self, sample, rng):
            return sample

        def act(self, obs, state):
            return obs, state

    for parts in ({"transforms": [Blur()]}, {"sampler": lambda step, x, **_: None}):
        with pytest.raises(BadCheckpoint, match="no checkpoint can name"):
            save_vla(vla(expert(), **parts), tmp_path / "checkpoint")
        assert not (tmp_path / "checkpoint").exists()


@dataclass(frozen=True)
class Darker:
    """Transform, its own Config."""

    by: int = 2
    part_name = "darker_for_a_test"

    def train(self, sample, rng):
        return sample

    def act(self, obs, state):
        return replace(obs, images={role: x // self.by for role, x in obs.images.items()}), state


def test_a_checkpoint_keeps_its_transforms(tmp_path):
    PARTS.add(Named("darker_for_a_test", Darker, lambda config, **_: config))
    made, obs = vla(expert(), transforms=[Darker(3)]).eval(), observation()
    save_vla(made, tmp_path / "checkpoint")
    again = load_vla(tmp_path / "checkpoint")
    assert again.transforms == [Darker(3)]
    a, b = (m.act(obs, m.start(obs.keys))[0].actions for m in (made, again))
    assert abs(a - b).max() < 1e-5
    again.transforms = []
    assert abs(a - again.act(obs, again.start(obs.keys))[0].actions).max() > 1e-5


def test_the_parts_above_are_real():
    """They work by themselves too."""
    made, obs = vla(oft()), observation()
    assert made.act(obs, made.start(obs.keys))[0].actions.shape == (2, 4, 3)
    eye = WristEye(EyeConfig(16, 32, 10))
    assert eye.start(2) == {}
