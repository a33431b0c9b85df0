"""Thoughts between the trunk and the hand: written, kept for a while, or remembered for a training."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mindhand.core.batch import Batch
from mindhand.core.keys import Keys
from mindhand.core.nouns import Observation, Reasoning
from mindhand.core.seams import State

from .expert import thought_tokens, two_means
from .trunk import Trunk


def unthought(rows: int, size: int) -> State:
    """What rows have that have not thought yet: the last "texts", the "query" they were thought at (-1: none) and the
    robot's "state" (rows, size) then."""
    return {"texts": ("",) * rows, "query": np.full(rows, -1, np.int64), "state": np.zeros((rows, size), np.float32)}


def reason(
    backbone: Any, reasoner: Any, trunk: Trunk, obs: Observation, state: State, keys: Keys
) -> tuple[Trunk, Reasoning, State]:
    """One thought a row on top of the trunk, and the state that remembers it. "forced" in `state`, or an observed text
    "thought", is the thought. What the reasoner's `turns` are told: the "instruction" of each row, and the "reasoning"
    where it is given.

    Rows for which a reasoner that `keeps` is not due go on with the last thought they had: all rows' words then enter
    in one pass. Those that are due are decoded first, and enter in the same pass as the others: what becomes of a row
    must not depend on whether its neighbours think.
    """
    given, last = state.get("forced", obs.text.get("thought")), state["thoughts"]
    sample = {"instruction": obs.text["instruction"]}
    due = np.ones(len(obs), bool)
    if given is None and reasoner.keeps:
        due = reasoner.due(obs, state)
        said = last["texts"]
        if due.any():
            _, new = backbone.generate(trunk, reasoner.turns(sample), keys=keys)
            said = [n if d else o for n, o, d in zip(new, said, due)]
        given = tuple(said)
    trunk, texts = backbone.generate(trunk, reasoner.turns({**sample, "reasoning": given}), keys=keys)
    now = {
        "texts": tuple(texts),
        "query": np.where(due, state["query"], last["query"]),
        "state": np.where(due[:, None], obs.state[:, -1], last["state"]).astype(np.float32),
    }
    return trunk, reasoner.read(texts), {**state, "thoughts": now}


def remember(trunk: Trunk, tokens: bool = False) -> dict[str, Tensor]:
    """What a frozen trunk tells the hand, small enough to keep for every frame: the mean hidden states (B,D) of
    prompt and reasoning, which is all that the expert's projectors read. tokens: for a hand that attends to the
    thought's tokens, these as "reasoning" (B,n,D), and "there" (B,n), which of them there are."""
    prompt, thought = two_means(trunk)
    if not tokens:
        return {"prompt": prompt, "reasoning": thought}
    each, there = thought_tokens(trunk)
    return {"prompt": prompt, "reasoning": each, "there": there}


def remembered(batch: Batch, backbone: Any) -> Trunk | None:
    """A trunk of one token a segment from what `remember` kept (targets "kept/prompt", "kept/reasoning"); a thought of
    which all tokens were kept has all of them."""
    if "kept/prompt" not in batch.targets:
        return None
    prompt, thought = (batch.targets[f"kept/{name}"] for name in ("prompt", "reasoning"))
    there = thought.valid if thought.value.ndim == 3 else None
    return as_trunk(prompt.value, thought.value, backbone.towers, there)


def as_trunk(prompt: Tensor, thought: Tensor, towers: nn.ModuleDict, there: Tensor | None = None) -> Trunk:
    """A trunk of one token a segment: what of a prompt and a thought, (B,D) each, reaches the hand. there (B,n): of a
    thought (B,n,D), which tokens there are."""
    ones = torch.ones(len(prompt), 1, dtype=torch.bool, device=prompt.device)
    hidden = {"text": prompt.unsqueeze(1), "reasoning": thought.unsqueeze(1) if there is None else thought}
    valid = {"text": ones, "reasoning": ones if there is None else there}
    return Trunk(towers, hidden, valid, {}, [], ones.long().squeeze(1))
