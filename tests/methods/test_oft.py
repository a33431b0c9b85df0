"""OpenVLA-OFT's unit checks, lettered as in its specification, and what a hand owes its seam."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor

from mindhand.core.errors import BuildError
from mindhand.core.keys import Keys
from mindhand.core.seams import CAUSAL, Code, Context, Draw, Expert, Inputs, Segment
from mindhand.methods.act.oft import BOTH_WAYS, OFT, Config, Film, FilmSite
from mindhand.model.diffusion import ODE
from mindhand.model.moe import MoEConfig, Upcycle
from mindhand.model.vision import Stem, StemConfig, ViT, ViTConfig
from mindhand.model.vision_qwen25 import WindowViT, WindowViTConfig

from ..model.tiny import segments, vlm
from ..seams.build import batch, close, observation, vla

WIDTH, HORIZON, ACTION, STATE = 32, 4, 3, 5
TOKENS = HORIZON * ACTION


def hand(seed: int = 0) -> OFT:
    torch.manual_seed(seed)
    return OFT(Config(HORIZON, ACTION, STATE, WIDTH))


def context(model=None, task=None) -> Context:
    model = model or vlm()
    found = segments(model)[0]
    if task is not None:
        found = [Segment(s.name, s.x, s.valid, s.position, task=task) for s in found]
    state = torch.rand(2, 1, STATE, generator=torch.Generator().manual_seed(0))
    return Context(model(found), {}, Inputs({}, {}, state))


def every() -> torch.Tensor:
    return torch.ones(2, HORIZON, dtype=torch.bool)


def code(valid: Tensor | None = None, seed: int = 3) -> Code:
    values = torch.rand(2, HORIZON, ACTION, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    return Code(values, torch.ones(2, HORIZON, dtype=torch.bool) if valid is None else valid)


def passes(model) -> list[tuple[int, ...]]:
    """Grows by one with every pass of the trunk."""
    seen: list[tuple[int, ...]] = []
    model.towers["vlm"].layers[0].attn.out.register_forward_hook(lambda m, i, o: seen.append(tuple(o.shape)))
    return seen


def test_is_an_expert():
    assert isinstance(hand(), Expert)


@pytest.mark.parametrize("rule,reaches", [((*BOTH_WAYS, *CAUSAL), True), (CAUSAL, False)])
def test_a_attention_between_action_positions(rule, reaches):
    """(a) A perturbed placeholder j > i changes the output at i with the two-way mask, and not with the causal."""
    ctx, oft = context(), hand()
    blank = oft.placeholders(ctx.trunk.end, every())
    i, j = 4, 7
    x = blank.x.clone()
    x[:, j] = 1.0
    moved = Segment(blank.name, x, blank.valid, blank.position)
    a, b = (ctx.trunk.extend([s], rule=rule).hidden["action"] for s in (blank, moved))
    assert bool((a[:, i] - b[:, i]).abs().amax(-1).min() > 1e-4) == reaches
    assert torch.equal(a[:, i], b[:, i]) != reaches
    assert (a[:, j + 1] - b[:, j + 1]).abs().amax(-1).min() > 1e-4  # and a later one in any case
    for name in ("image/front", "text", "reasoning"):
        assert torch.equal(ctx.trunk.hidden[name], ctx.trunk.extend([moved], rule=rule).hidden[name])


def test_b_one_pass_a_chunk():
    """(b) One pass of the trunk for H x A' numbers, however many samples; autoregression takes H x A'."""
    model, oft = vlm(), hand()
    ctx = context(model)
    seen = passes(model)
    with torch.no_grad():
        draw = oft.draw(ctx, 5, keys=Keys.seeded(2))
    assert seen == [(2, 1 + TOKENS, WIDTH)]  # and the state
    assert draw.value.shape == (2, 5, HORIZON, ACTION) and torch.equal(draw.value[:, 0], draw.value[:, 4])
    oft.loss(ctx, code(), Keys.seeded(2))
    assert len(seen) == 2


def test_d_actions_come_back_in_robot_units():
    """(d) Encoded and decoded, chunks are what they were; by another's measured state or range they are not."""
    model, other = vla(hand()), vla(hand())
    b = batch(model.backbone)
    coded = model.codec.encode(b.actions, b.action_valid, b.state)
    assert coded.values.abs().max() == pytest.approx(1, abs=1e-5)
    back = model.codec.decode(coded, b.state)
    assert abs(back.actions - b.actions.numpy()).max() < 1e-5 and not back.errors.any()
    moved = abs(model.codec.decode(coded, b.state.flip(0)).actions - b.actions.numpy()).max((0, 1))
    assert (moved[:2] > 0.01).all() and moved[2] < 1e-5  # the joints are told from where they are, the gripper is not
    other.codec.load_statistics({**model.codec.statistics(), "high": (2 * model.codec.high).tolist()})
    assert abs(other.codec.decode(coded, b.state).actions - b.actions.numpy()).max() > 0.01


def test_e_parallel_and_sequential_agree():
    """(e) One pass and H x A' passes have the same shapes; under the causal rule the same values too."""
    ctx, oft = context(), hand()
    s = oft.placeholders(ctx.trunk.end, every())
    step = ctx.trunk
    for i in range(TOKENS):
        part = (x[:, i : i + 1] for x in (s.x, s.valid, s.position))
        step = step.extend([Segment("action", *part)])
    parallel = ctx.trunk.extend([s])
    close(step.hidden["action"], parallel.hidden["action"])
    close(oft.regress(step.hidden["action"]), oft.regress(parallel.hidden["action"]))
    both = ctx.trunk.extend([s], rule=(*BOTH_WAYS, *CAUSAL))
    out, other = oft.regress(both.hidden["action"]), oft.regress(step.hidden["action"])
    assert out.shape == other.shape == (2, HORIZON, ACTION)
    assert (out - other).abs().max() > 1e-3


def test_nothing_of_the_answer_is_in_the_input():
    """Two rows whose actions differ are predicted alike: no embedding of the truth is fed."""
    ctx, oft = context(), hand()
    a, b = (oft.predict(ctx, oft.corrupt(code(seed=s), Keys.seeded(2))) for s in (3, 4))
    assert torch.equal(a, b) and not torch.equal(code(seed=3).values, code(seed=4).values)


def test_padding_changes_neither_loss_nor_gradient():
    oft = hand()
    ctx = context()
    valid = torch.tensor([[True] * 4, [True, True, False, False]])
    out = []
    for junk in (0.0, 9.0):
        c = code(valid)
        c = Code(torch.where(valid.unsqueeze(-1), c.values, torch.full_like(c.values, junk)), valid)
        oft.zero_grad()
        loss = oft.loss(ctx, c, Keys.seeded(2))["action"]
        loss.sum().backward(retain_graph=True)
        out.append((loss.detach(), torch.cat([p.grad.flatten() for p in oft.parameters()])))
    assert torch.equal(out[0][0], out[1][0]) and torch.equal(out[0][1], out[1][1])
    shown = oft.predict(ctx, oft.corrupt(code(valid), Keys.seeded(2)))[1, :2]
    close(out[0][0][1], (shown - code().values[1, :2]).abs().mean().detach())
    none = oft.loss(ctx, code(torch.zeros(2, 4, dtype=torch.bool)), Keys.seeded(2))["action"]
    assert none.tolist() == [0, 0]


def test_held_parts_and_foreign_samplers():
    ctx, oft = context(), hand()
    frozen = torch.full((2, 2, HORIZON, ACTION), float("nan"))
    frozen[..., 0] = 0.5
    value = oft.draw(ctx, 2, keys=Keys.seeded(2), frozen=frozen).value
    free = oft.draw(ctx, 2, keys=Keys.seeded(2)).value
    assert bool((value[..., 0] == 0.5).all()) and torch.equal(value[..., 1:], free[..., 1:])
    with pytest.raises(BuildError, match="sampler"):
        oft.draw(ctx, 1, keys=Keys.seeded(2), sampler=ODE())
    with pytest.raises(BuildError, match="density"):
        oft.log_prob(ctx, Draw(value))


def test_in_a_vla_it_trains_the_mind_and_acts():
    """In the slot of the heart's own hand: losses, gradients into the language tower, a chunk in robot units."""
    model = vla(hand())
    loss = model.losses(batch(model.backbone), Keys.seeded(2))["action"]
    loss.mean().backward()
    assert model.backbone.towers["vlm"].layers[0].ffn.down.weight.grad.abs().max() > 0
    obs = observation()
    chunk, state = model.act(obs, model.start(obs.keys))
    again, _ = model.act(obs, state)
    assert chunk.actions.shape == (2, HORIZON, ACTION) and (chunk.actions == again.actions).all()
    other, _ = model.act(obs.with_text("instruction", ("3+4=7.", "pick")), model.start(obs.keys))
    assert abs(other.actions[0] - chunk.actions[0]).max() > 1e-5


def test_its_tokens_go_to_the_static_experts_of_robots():
    """The upcycled mind routes placeholders as robot tokens, whatever the rows of the prompt were."""
    model, oft = vlm(), hand()
    Upcycle(MoEConfig(mixture="static+dynamic")).apply(model)
    ctx = context(model, torch.tensor([0, 1]))
    before = oft.predict(ctx, oft.corrupt(code(), Keys.seeded(2)))
    with torch.no_grad():
        for block in model.towers["vlm"].layers:
            block.ffn.static.each[0].down.weight += 1  # the image-text experts
    assert torch.equal(before, oft.predict(ctx, oft.corrupt(code(), Keys.seeded(2))))


def vit() -> torch.nn.Module:
    model = vlm()
    torch.manual_seed(0)
    model.vision = ViT(ViTConfig(width=32, layers=2, heads=2, patch=8, frames=1, merge=2, out=32))
    return model


def windows() -> torch.nn.Module:
    model = vlm()
    torch.manual_seed(0)
    config = WindowViTConfig(width=32, layers=2, heads=2, patch=8, frames=1, ffn=32, window=1, whole=(1,), out=32)
    model.vision = WindowViT(config)
    return model


@pytest.mark.parametrize("made,sites", [(vlm, len(StemConfig().channels)), (vit, 2), (windows, 2)])
def test_c_film_of_nothing_is_the_plain_encoder(made, sites):
    """(c) With zero weights, and where nothing is asked, FiLM leaves the tower as it was; then words change it."""
    plain = made()
    filmed = copy.deepcopy(plain)
    Film().apply(filmed)
    assert sum(isinstance(m, FilmSite) for m in filmed.modules()) == sites
    images = {"front": torch.rand(3, 2, 3, 32, 32, generator=torch.Generator().manual_seed(1))}
    about = torch.randn(3, WIDTH, generator=torch.Generator().manual_seed(2))
    was = plain.see(images)["front"].x
    assert torch.equal(was, filmed.see(images, about)["front"].x)
    for m in filmed.modules():
        if isinstance(m, FilmSite):
            torch.nn.init.normal_(m.tell.weight, std=0.1)
    assert torch.equal(was, filmed.see(images)["front"].x)
    now = filmed.see(images, about)["front"].x
    assert (now - was).abs().amax((1, 2)).min() > 1e-4
    close(filmed.see({"front": images["front"][1:2]}, about[1:2])["front"].x, now[1:2])  # each row by its own words
    plain.vision = torch.nn.Identity()
    with pytest.raises(BuildError, match="FiLM"):
        Film().apply(plain)


def test_words_reach_the_tower_in_training_and_in_acting():
    model = vla(hand(), edits=[Film()])
    for m in model.modules():
        if isinstance(m, FilmSite):
            torch.nn.init.normal_(m.tell.weight, std=0.3)
    model.losses(batch(model.backbone, order=("image/front", "text")), Keys.seeded(2))["action"].mean().backward()
    assert all(bool(m.tell.weight.grad.any()) for m in model.modules() if isinstance(m, FilmSite))
    seen: list[Tensor] = []
    model.backbone.vision.register_forward_hook(lambda m, i, o: seen.append(o.x.detach()))
    for word in ("pick", "3+4=7."):
        obs = observation((word, word))
        model.act(obs, model.start(obs.keys))
    assert isinstance(model.backbone.vision, Stem) and not torch.equal(seen[0], seen[1])
