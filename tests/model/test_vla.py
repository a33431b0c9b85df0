"""The VLA wired from tiny real parts: trains, acts, refuses."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from mindhand.core.batch import Batch, Target
from mindhand.core.checkpoint import load_checkpoint, smoke_differences
from mindhand.core.errors import BadCheckpoint, BuildError, SpecMismatch
from mindhand.core.keys import Key, Keys
from mindhand.core.nouns import Observation
from mindhand.core.seams import Inputs, Policy
from mindhand.core.spec import Camera, Part, Spec
from mindhand.model.codec import ChunkCodec
from mindhand.model.configs import expert_config
from mindhand.model.expert import ActionExpert, Projector
from mindhand.model.eyes import EyeConfig, Gaze, GazeConfig, WristEye, look_scores
from mindhand.model.moe import MoEConfig, Upcycle
from mindhand.model.reasoner import ReasonerConfig, WordsReasoner
from mindhand.model.store import load_vla, save_vla, smoke_arrays
from mindhand.model.thinking import remember
from mindhand.model.vision import StemConfig
from mindhand.model.vla import VLA

from .tiny import vlm

POSE = (
    Part("tcp", "position", ("x", "y", "z"), "m", frame="base"),
    Part("tool", "rotation", ("xx", "xy", "xz", "yx", "yy", "yz"), "1", frame="base", rotation="rot6d"),
    Part("gripper", "gripper", ("open",), "1", polarity="open"),
)
SPEC = Spec("tiny", POSE, POSE, (Camera("front", 32, 32, (32, 32)), Camera("wrist", 16, 16, (16, 16))), 10.0)
H = 4
SIDES = {"front": 32, "wrist": 16}


def pose(rng, *shape):
    """Random poses with true rotations."""
    x = rng.normal(size=(*shape, 10)).astype(np.float32) * 0.1
    q, _ = np.linalg.qr(rng.normal(size=(*shape, 3, 3)))
    x[..., 3:9] = np.swapaxes(q[..., :, :2], -1, -2).reshape(*shape, 6)
    return x


def batch(robot=(True, True), seed=0) -> Batch:
    rng = np.random.default_rng(seed)
    w = vlm().words
    b = len(robot)
    on = torch.tensor(robot)
    state, actions = torch.from_numpy(pose(rng, b, 1)), torch.from_numpy(pose(rng, b, H))
    gaze = torch.tensor([[20.0, 9.0, 24.0, 11.0]] * b)
    gaze[~on] = float("nan")
    return Batch(
        order=("image/front", "text", "reasoning"),
        images={r: torch.from_numpy(rng.integers(0, 255, (b, 1, n, n, 3), dtype=np.uint8)) for r, n in SIDES.items()},
        present={"front": torch.ones(b, dtype=torch.bool), "wrist": on},
        text={
            "text": w.questions(["what is on the board?", "pick"][:b]),
            "reasoning": w.answers(["3+4=7.", "take 7 left back."][:b]),
        },
        task=on.long(), state=state, actions=actions, action_valid=on.unsqueeze(1).expand(-1, H).clone(),
        targets={"gaze": Target(gaze, on), "gaze/wrist": Target(gaze / 2, on)},
    )  # fmt: skip


def build(seed=0, **changes) -> VLA:
    torch.manual_seed(seed)
    backbone = vlm(seed)
    grid = backbone.see({"front": torch.zeros(1, 1, 3, 32, 32)})["front"].grid
    parts = dict(
        spec=SPEC,
        backbone=backbone,
        expert=ActionExpert(expert_config("test", action=10, horizon=H, state=10, trunk=32)),
        codec=ChunkCodec(SPEC),
        reasoner=WordsReasoner(ReasonerConfig(limit=5), lambda text: {"n": len(text)}),
        streams=[
            WristEye(EyeConfig(16, 32, 10, unshuffle=2, channels=8)),
            Gaze(GazeConfig(0, grid[1:], (32, 32), 32, 10, 16)),
        ],
    )
    vla = VLA(**{**parts, **changes})
    for p in vla.expert.parameters() if vla.expert is not None else ():
        if p.ndim > 1:
            torch.nn.init.normal_(p, std=p.shape[-1] ** -0.5)
    if vla.codec is not None:
        vla.codec.fit(iter([batch(seed=s) for s in range(5)]))
    vla.state_scale.fit(torch.from_numpy(pose(np.random.default_rng(1), 50)))
    return vla


def observation(rows=2, seed=0) -> Observation:
    rng = np.random.default_rng(seed)
    return Observation(
        images={r: rng.integers(0, 255, (rows, 1, n, n, 3), dtype=np.uint8) for r, n in SIDES.items()},
        state=pose(rng, rows, 1),
        text={"instruction": ("pick the right tile.",) * rows},
        time=np.zeros((rows, 1)),
        keys=tuple(Key("p", "t", i) for i in range(rows)),
    )  # fmt: skip


def test_losses_and_gradients_reach_what_they_should():
    vla = build()
    losses = vla.losses(batch(), Keys.seeded(2, "k"))
    assert set(losses) == {"text", "action", "aim/front", "aim/wrist"} and all(v.shape == (2,) for v in losses.values())
    assert all(bool(torch.isfinite(v).all()) for v in losses.values())
    losses["action"].mean().backward()
    assert vla.backbone.embedding.weight.grad.abs().max() > 0  # the action loss flows into the VLM (no stop)
    assert all(s.aim.eye.out.weight.grad.abs().max() > 0 for s in vla.streams)


def test_an_image_text_row_changes_no_robot_loss():
    """Losses are means such that the batch's mean is over supervised tokens, and over robot rows."""
    vla = build()
    both = vla.losses(batch(), Keys.seeded(2, "k"))
    mixed = vla.losses(batch((True, False)), Keys.seeded(2, "k"))
    assert float(mixed["action"][1]) == 0 and float(mixed["aim/front"][1]) == 0
    assert float(mixed["action"].mean()) == pytest.approx(float(both["action"][0]), rel=1e-5)
    tokens = batch().text["reasoning"].supervised.sum(1)
    per_token = both["text"] / 2 * tokens.sum() / tokens  # mean error of each row's tokens
    assert float(both["text"].mean()) == pytest.approx(float((per_token * tokens).sum() / tokens.sum()), rel=1e-5)


@pytest.mark.parametrize("more", range(4))
def test_questions_share_one_picture(more):
    """Four questions packed on a picture: the same losses as four copies of the picture, however many tokens it takes
    to fill the pass up."""
    vla = build(expert=None, codec=None, streams=())
    w = vla.backbone.words
    ask, say = ["what?", "pick", "tiles 1 7 4.", "take" + " take" * more], ["7", "3+4=7.", "left", "no"]
    image = batch().images["front"][:1]
    on = torch.ones(1, dtype=torch.bool)
    text = {"text": w.questions(ask), "reasoning": w.answers(say)}
    order, task = ("image/front", "text", "reasoning"), torch.zeros(4, dtype=torch.long)
    packed = Batch(order, {"front": image}, {"front": on}, text, task, questions=4)
    copies = Batch(order, {"front": image.expand(4, -1, -1, -1, -1)}, {"front": on.expand(4)}, text, task)
    a, b = (vla.losses(x, Keys.seeded(1))["text"] for x in (packed, copies))
    assert (a - b).abs().max() < 1e-5
    ga, gb = (torch.autograd.grad(x.mean(), vla.backbone.embedding.weight)[0] for x in (a, b))
    assert (ga - gb).abs().max() < 1e-5


def test_acts_as_a_policy_and_depends_on_keys_alone():
    vla = build().eval()
    assert isinstance(vla, Policy)
    obs = observation()
    chunk, state = vla.act(obs, vla.start(obs.keys), want=("gaze",))
    assert chunk.actions.shape == (2, H, 10) and len(chunk.reasoning) == 2 and chunk.extra["gaze"].shape == (2, 2)
    again, _ = vla.act(obs, vla.start(obs.keys))
    assert np.array_equal(chunk.actions, again.actions)
    later, _ = vla.act(obs, state)  # the second query draws other noise
    assert not np.array_equal(chunk.actions, later.actions)
    alone, _ = vla.act(obs.rows([1]), vla.start(obs.keys[1:]))
    assert np.allclose(alone.actions[0], chunk.actions[1], atol=1e-4)
    proposals, _ = vla.propose(obs, vla.start(obs.keys), 3)
    assert proposals.actions.shape == (2, 3, H, 10)


def test_forced_thoughts_reach_the_hand():
    vla = build().eval()
    obs = observation()
    said = [
        vla.act(obs, {**vla.start(obs.keys), "forced": (text, text)})[0] for text in ("3+4=7.", "take 7 left back.")
    ]
    assert said[0].reasoning.texts == ("3+4=7.", "3+4=7.") and said[0].reasoning.fields["n"] == (6, 6)
    assert not np.allclose(said[0].actions, said[1].actions)
    seen, _ = vla.act(obs.with_text("thought", ["take 7 left back."] * 2), vla.start(obs.keys))
    assert np.array_equal(seen.actions, said[1].actions) and seen.reasoning.texts == said[1].reasoning.texts


def test_remembered_thoughts_give_the_same_hand():
    vla = build()
    b = batch()
    full = vla.losses(b, Keys.seeded(2, "k"))["action"]
    kept = {
        f"kept/{n}": Target(x.detach(), torch.ones(2, dtype=torch.bool))
        for n, x in remember(vla.context(b).trunk).items()
    }
    short = replace(b, order=("image/front",), text={}, targets={**b.targets, **kept})
    vla.backbone.see = None  # must not be needed
    assert (vla.losses(short, Keys.seeded(2, "k"))["action"] - full).abs().max() < 1e-5


def test_codec_round_trip_and_floor():
    vla = build()
    b = batch(seed=3)
    code = vla.codec.encode(b.actions, b.action_valid, b.state)
    inside = code.values.abs().flatten(1).amax(1) <= 1
    back = vla.codec.decode(code, b.state)
    assert np.abs(back.actions - b.actions.numpy())[inside.numpy()].max(initial=0) < 1e-4
    assert np.array_equal(back.errors, [0, 0])
    broken = replace(code, values=torch.full_like(code.values, float("nan")))
    held = vla.codec.decode(broken, b.state)
    assert np.isfinite(held.actions).all() and np.array_equal(held.errors, [1, 1])
    again = ChunkCodec(SPEC)
    with pytest.raises(BadCheckpoint, match="no statistics"):
        again.encode(b.actions, b.action_valid, b.state)
    again.load_statistics(vla.codec.statistics())
    assert torch.equal(again.encode(b.actions, b.action_valid, b.state).values, code.values)
    with pytest.raises(BadCheckpoint, match="chunk-1"):
        again.load_statistics({"codec": "other", "low": [0] * 10})


def test_refusals():
    vla = build()
    with pytest.raises(BuildError, match="'backbone/32 wide', which object"):
        VLA(spec=SPEC, backbone=object(), expert=vla.expert, codec=vla.codec)
    with pytest.raises(SpecMismatch, match="overhead"):
        build(see=("overhead",))
    obs = observation()
    with pytest.raises(SpecMismatch, match="16x16"):
        vla.act(replace(obs, images={"front": obs.images["wrist"]}, present={}), vla.start(obs.keys))
    with pytest.raises(SpecMismatch, match="state of size"):
        vla.act(replace(obs, state=obs.state[..., :4]), vla.start(obs.keys))


@pytest.mark.parametrize(("role", "changes"), [("front", {}), ("wrist", {}), ("front", {"streams": []})])
def test_a_camera_is_shown_or_declared_absent(role, changes):
    """It never acts in silence without a picture; one that is declared absent is the same whatever its pixels."""
    vla = build(**changes).eval()
    obs, off, other = observation(), np.zeros(2, bool), observation(seed=5).images[role]

    def acts(obs):
        return vla.act(obs, vla.start(obs.keys))[0]

    left = {r: x for r, x in obs.images.items() if r != role}
    with pytest.raises(SpecMismatch, match=rf"without a picture of \['{role}'\]"):
        acts(replace(obs, images=left, present={}))
    with pytest.raises(SpecMismatch, match="overhead"):
        acts(replace(obs, images={**obs.images, "overhead": other}, present={}))
    shown = acts(replace(obs, images={**obs.images, role: other}))
    absent, again = (
        acts(replace(obs, images={**obs.images, role: x}, present={role: off})) for x in (obs.images[role], other)
    )
    assert absent.reasoning.texts == again.reasoning.texts and np.array_equal(absent.actions, again.actions)
    assert not np.array_equal(acts(obs).actions, shown.actions)
    assert not np.array_equal(absent.actions, shown.actions)


def test_a_camera_that_nobody_looks_through_may_be_missing():
    vla, obs = build(streams=[]).eval(), observation()
    front = replace(obs, images={"front": obs.images["front"]}, present={})
    a, b = (vla.act(o, vla.start(o.keys))[0].actions for o in (obs, front))
    assert np.array_equal(a, b)


def test_gaze_looks_where_it_points():
    gaze = Gaze(GazeConfig(0, (4, 8), (64, 64), 16, 10))
    weights = torch.zeros(1, 32)
    weights[0, 2 * 8 + 5] = 1
    assert gaze.centre(weights)[0].tolist() == pytest.approx([5.5 * 8, 2.5 * 16])


def test_the_eye_looks_again_where_it_aimed():
    gaze = Gaze(GazeConfig(0, (4, 8), (64, 64), 16, 10, size=16))
    torch.nn.init.zeros_(gaze.aim.answer.weight)
    gaze.aim.answer.bias.data = torch.tensor([0.5, -0.25, 0.9, 0.9])
    weights = torch.zeros(1, 32)
    weights[0, 2 * 8 + 4] = 1  # the cell's middle: 36, 40
    gaze.point = lambda trunk: weights
    on = torch.ones(1, dtype=torch.bool)
    inputs = Inputs({"front": torch.rand(1, 1, 3, 64, 64)}, {"front": on}, torch.zeros(1, 1, 10))
    assert gaze(inputs, object(), {}).state["centre"].tolist() == [[36 + 0.5 * 8, 40 - 0.25 * 8]]


def test_gaze_reads_the_head_that_looks_at_the_last_words_said():
    """The pointer is where the head looked while the last words were said: not at the end, not before, not padding."""
    vla = build().eval()
    obs, gaze = observation(), vla.streams[1]
    said = ("take 7 left back.", "take.")
    ctx, _ = vla.think(obs, {**vla.start(obs.keys), "forced": said})
    looked = look_scores(ctx.trunk, 0, 0, "reasoning", "front").softmax(-1)
    point = gaze.point(ctx.trunk)
    for row, text in enumerate(said):
        words = 1 + len(vla.backbone.words.encode(text))  # the cue, and what was said; the end follows
        last = looked[row, max(words - 4, 0) : words]
        assert torch.allclose(point[row], last.mean(0), atol=1e-5)
    assert point.sum(-1).tolist() == pytest.approx([1, 1])
    b = batch()
    trained = vla.context(b).trunk  # in training the same words look at the same places
    assert look_scores(trained, 0, 0, "reasoning", "front").shape[:2] == b.text["reasoning"].ids.shape


def test_an_aim_out_of_sight_teaches_nothing():
    vla = build()
    away = Target(torch.full((2, 4), 99.0), torch.ones(2, dtype=torch.bool))
    b = batch()
    lost = vla.losses(replace(b, targets={**b.targets, "gaze/wrist": away}), Keys.seeded(2, "k"))
    assert float(lost["aim/wrist"].abs().sum()) == 0 and float(lost["aim/front"].abs().sum()) > 0
    for half in (slice(0, 2), slice(2, 4)):  # a point alone out of sight, or unknown, leaves the other
        gaze = b.targets["gaze/wrist"].value.clone()
        gaze[:, half] = torch.nan
        some = Target(gaze, torch.ones(2, dtype=torch.bool))
        lost = vla.losses(replace(b, targets={**b.targets, "gaze/wrist": some}), Keys.seeded(2, "k"))
        assert bool(torch.isfinite(lost["aim/wrist"]).all()) and float(lost["aim/wrist"].abs().sum()) > 0


def test_a_projector_is_fitted_without_a_change():
    """Centred and scaled inputs, and the same output, but for what is far from all that was seen."""
    torch.manual_seed(0)
    p, x = Projector(32), torch.randn(500, 32) * 0.1 + 3
    doubt = torch.randn(500, 32)
    before = p(x)
    assert torch.equal(p(x, doubt), before)  # not yet in any scale
    p.fit(x)
    near = ((x - p.middle) / p.spread).square().mean(-1) < 1.5**2
    assert near.float().mean() > 0.95 and torch.allclose(p(x)[near], before[near], atol=1e-4)
    p.fit(x)
    assert torch.allclose(p(x)[near], before[near], atol=1e-4) and not torch.equal(p.middle, torch.zeros(32))
    assert not torch.allclose(p(x, doubt)[near], before[near], atol=0.1)
    away = (x - p.middle) * 100
    assert torch.allclose(p(p.middle + away), p(p.middle + 7 * away), atol=1e-4)  # no louder for being further


def test_the_hand_doubts_while_it_learns_and_not_when_it_acts():
    vla, b = build(), batch()
    vla.expert.prompt.fit(torch.randn(20, 32))
    vla.expert.thought.fit(torch.randn(20, 32))
    ctx = vla.context(b)
    code = vla.codec.encode(b.actions, b.action_valid, b.state)
    a, same, other = (float(vla.expert.loss(ctx, code, Keys.seeded(2, k))["action"].sum()) for k in (1, 1, 2))
    assert a == same != other
    sure, unsure = vla.expert.conditions(ctx), vla.expert.conditions(ctx, Keys.seeded(2, 1))
    assert torch.equal(sure.blocks[0], vla.expert.conditions(ctx).blocks[0])
    assert not torch.allclose(sure.blocks[0], unsure.blocks[0])
    again = vla.expert.conditions(ctx, Keys.seeded(2, 1))
    assert torch.equal(unsure.blocks[-1], again.blocks[-1])


def test_a_checkpoint_acts_the_same(tmp_path):
    vla = build(edits=[Upcycle(MoEConfig(4, 2))]).eval()
    with torch.no_grad():
        vla.backbone.towers["vlm"].layers[0].ffn.down[2] += 0.1
    obs = observation()
    save_vla(vla, tmp_path / "c", smoke=obs)
    again = load_vla(tmp_path / "c", SPEC, parse=lambda text: {"n": len(text)})
    assert not smoke_differences(load_checkpoint(tmp_path / "c", SPEC).smoke, smoke_arrays(again, obs), 0.0)
    assert isinstance(again.backbone.config.vision, StemConfig)
    other = replace(SPEC, rate=20.0)
    with pytest.raises(SpecMismatch, match="rate"):
        load_vla(tmp_path / "c", other)
