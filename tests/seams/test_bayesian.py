"""BayesianVLA (2601.15197): query tokens before and after the instruction, two orders of one prompt.

Seam: Objective, which takes over the action loss. Batch.order names the sequence, so the prior branch is the same
batch in another order: [picture, query, text] beside [picture, text, query].
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mindhand.core.batch import Batch, Text, masked_rows
from mindhand.core.keys import Keys
from mindhand.core.seams import Context, Objective, Trunk
from mindhand.model.vla import VLA

from ..model.tiny import expert, vlm
from .build import batch, close, vla

QUERIES = 4  # K (paper: 64)
POSTERIOR, PRIOR = ("text", "query"), ("query", "text")
OTHER = ("take 7 left back.", "3+4=7. what?")


def queries(model, rows: int) -> Text:
    """The K learnable words <action_i>, the same in every row."""
    ids = torch.tensor(model.add_words([f"<action_{i}>" for i in range(QUERIES)]))
    valid = torch.ones(rows, QUERIES, dtype=torch.bool)
    return Text(ids.expand(rows, -1).contiguous(), valid, torch.zeros_like(valid))


def reading(ctx: Context, trunk: Trunk, detach: bool = False) -> Context:
    """What the hand may read: the queries' last hidden states and nothing else of the trunk."""
    return replace(ctx, trunk=trunk.only(["query"], detach))


def likelihood(vla: VLA, trunk: Trunk, text: Text) -> Tensor:
    """Mean log-probability a token of the instruction, (B,); its cue is given."""
    scores = vla.backbone.logits(trunk.hidden["text"][:, :-1]).float()
    value = -F.cross_entropy(scores.transpose(1, 2), text.ids[:, 1:], reduction="none")
    return masked_rows(value, text.valid[:, 1:])


class Bayesian(nn.Module):
    """L = (1 - share) L_FM(posterior) + share L_FM(prior) - beta * [log p(l | v, Q) - sg log p(l | v)]."""

    replaces: frozenset[str] = frozenset({"action"})

    def __init__(self, share: float = 0.3, beta: float = 0.1):
        super().__init__()
        self.share, self.beta = share, beta

    def terms(self, vla: VLA, batch: Batch, ctx: Context, keys: Keys) -> dict[str, Tensor]:
        """The four terms, (B,) each; `ctx` is the posterior's."""
        assert batch.order == POSTERIOR
        prior = vla.trunk(replace(batch, order=PRIOR), ctx.inputs)
        code = vla.codec.encode(batch.actions, batch.action_valid, batch.state)

        def flow(c: Context) -> Tensor:
            return vla.expert.loss(c, code, keys)["action"]

        return {
            "posterior": flow(reading(ctx, ctx.trunk)),
            "prior": flow(reading(ctx, prior, detach=True)),
            "explains": likelihood(vla, prior, batch.text["text"]),
            "alone": likelihood(vla, ctx.trunk, batch.text["text"]).detach(),
        }

    def loss(self, vla: VLA, batch: Batch, ctx: Context, keys: Keys) -> dict[str, Tensor]:
        t = self.terms(vla, batch, ctx, keys)
        return {
            "action": (1 - self.share) * t["posterior"] + self.share * t["prior"],
            "language": -self.beta * (t["explains"] - t["alone"]),
        }

    def after_step(self, vla: VLA, step: int) -> None:
        pass


FLOW = Keys.seeded(2, "flow")


def world(texts=None) -> tuple[VLA, Batch, Bayesian]:
    model = vlm()
    ask = queries(model, 2)
    objective = Bayesian()
    made = vla(expert(process="flow"), model, objectives=[objective])
    b = batch(model, **({"texts": texts} if texts else {}))
    return made, replace(b, order=POSTERIOR, text={**b.text, "query": ask}), objective


def gradients(loss: Tensor, module: nn.Module) -> Tensor:
    params = list(module.parameters())
    found = torch.autograd.grad(loss, params, retain_graph=True, allow_unused=True)
    return torch.cat([torch.zeros_like(p).flatten() if g is None else g.flatten() for p, g in zip(params, found)])


def test_is_an_objective():
    assert isinstance(Bayesian(), Objective)


def test_1_the_prior_never_saw_the_instruction():
    """(1) Another instruction leaves the prior's queries, bit for bit, and moves the posterior's. An instruction
    of another length pads the sums differently, so that rounding is allowed."""
    made, b, objective = world()
    text = b.text["text"]

    def gap(other: Batch, order: tuple[str, ...]) -> Tensor:
        x, y = (made.trunk(replace(one, order=order), made.inputs(one)).hidden["query"] for one in (b, other))
        return (x - y).abs().amax((1, 2)).detach()

    ids = text.ids.clone()
    ids[:, 1:3] = text.ids[:, 1:3].flip(1)
    same = replace(b, text={**b.text, "text": replace(text, ids=ids)})
    assert bool((same.text["text"].ids != text.ids).any(1).all())
    long = replace(b, text={**b.text, "text": made.backbone.words.questions(OTHER)})
    assert long.text["text"].ids.shape != text.ids.shape
    dark = replace(b, images={"front": b.images["front"] // 2})
    assert float(gap(same, PRIOR).max()) == 0.0
    assert float(gap(long, PRIOR).max()) < 1e-5
    assert float(gap(same, POSTERIOR).min()) > 1e-3
    assert float(gap(long, POSTERIOR).min()) > 1e-3
    assert min(float(gap(dark, order).min()) for order in (PRIOR, POSTERIOR)) > 1e-4  # the picture moves both
    # and so it is for the terms of the objective
    a, b = (objective.terms(made, one, made.context(one), FLOW) for one in (b, same))
    assert torch.equal(a["prior"], b["prior"])
    assert (a["posterior"] - b["posterior"]).abs().min() > 1e-4


def test_2_the_prior_trains_the_hand_alone():
    """(2) Its flow loss has a gradient in the hand, and in the backbone exactly none; the posterior has both."""
    made, b, objective = world()
    t = objective.terms(made, b, made.context(b), FLOW)
    assert not gradients(t["prior"].sum(), made.backbone).any()
    assert gradients(t["prior"].sum(), made.expert).abs().max() > 1e-4
    assert gradients(t["posterior"].sum(), made.backbone).abs().max() > 1e-6
    assert gradients(t["posterior"].sum(), made.expert).abs().max() > 1e-4


def test_3_the_second_term_has_no_gradient():
    """(3) The ratio's gradient is that of log p(l | v, Q) alone, and not of the difference."""
    made, b, objective = world()
    ctx = made.context(b)
    t = objective.terms(made, b, ctx, FLOW)
    ratio = gradients((t["explains"] - t["alone"]).sum(), made.backbone)
    assert torch.equal(ratio, gradients(t["explains"].sum(), made.backbone))
    free = likelihood(made, ctx.trunk, b.text["text"])
    close(free.detach(), t["alone"])
    assert gradients(free.sum(), made.backbone).abs().max() > 1e-3
    # the ratio reaches the queries, which the instruction's tokens see in the prior branch and only there
    rows = b.text["query"].ids[0]
    slope = torch.autograd.grad(t["explains"].sum(), made.backbone.embedding.weight, retain_graph=True)[0]
    assert slope[rows].abs().amax(1).min() > 0
    assert not gradients((t["explains"] - t["alone"]).sum(), made.expert).any()


def test_4_acting_needs_the_posterior_alone():
    """(4) A chunk drawn from a forward of the posterior is the one drawn beside the prior; cached queries too."""
    made, b, objective = world()
    keys = Keys.seeded(2, "act")
    with torch.no_grad():
        ctx = made.context(b)
        objective.loss(made, b, ctx, FLOW)
        beside = made.expert.draw(reading(ctx, ctx.trunk), 2, keys=keys).value
        alone = made.context(b)
        assert torch.equal(beside, made.expert.draw(reading(alone, alone.trunk), 2, keys=keys).value)
        prompt = made.trunk(replace(b, order=("text",)), ctx.inputs)
        q = b.text["query"]
        late = prompt.extend([made.backbone.text("query", q.ids, q.valid, prompt.end)])
        close(beside, made.expert.draw(reading(ctx, late), 2, keys=keys).value, 1e-4)
        prior = made.trunk(replace(b, order=PRIOR), ctx.inputs)
        assert (beside - made.expert.draw(reading(ctx, prior), 2, keys=keys).value).abs().max() > 1e-3


def test_the_objective_takes_over_the_action_loss():
    """The VLA's losses are the formula's, and the heart's own action loss is gone."""
    made, b, objective = world()
    keys = Keys.seeded(2, "step")
    got, mine = made.losses(b, keys), keys.fold("objective", 0)
    t = objective.terms(made, b, made.context(b), mine)
    close(got["action"], 0.7 * t["posterior"] + 0.3 * t["prior"])
    close(got["language"], -0.1 * (t["explains"] - t["alone"]))
    assert set(got) == {"action", "language"}
    plain = made.expert.loss(made.context(b), made.codec.encode(b.actions, b.action_valid, b.state), mine)
    assert (plain["action"] - got["action"]).abs().max() > 1e-4


def test_the_likelihood_is_that_of_the_tokens():
    """Against a loop over tokens, in rows of different length."""
    made, b, _ = world()
    trunk, text = made.context(b).trunk, b.text["text"]
    for row, value in enumerate(likelihood(made, trunk, text)):
        n = int(text.valid[row].sum())
        scores = made.backbone.logits(trunk.hidden["text"][row]).log_softmax(-1)
        want = sum(scores[i, text.ids[row, i + 1]] for i in range(n - 1)) / (n - 1)
        assert float(value.detach()) == pytest.approx(float(want.detach()), rel=1e-4)
