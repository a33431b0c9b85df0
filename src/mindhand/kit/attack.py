"""What attacks on pictures share: a policy's condition with gradients, steps inside a ball, pictures of 8 bits.

For evaluations of one's own policies in simulation (`core.red_team`). Gradients are taken of what is asked for alone:
no parameter keeps one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mindhand.core.errors import BuildError
from mindhand.core.nouns import Observation
from mindhand.core.seams import Context, State
from mindhand.model.words import ASK

Synonyms = Callable[[str], Sequence[str]]  # of a word in lower case; none where it has none


def settled(vla: Any) -> None:
    """BuildError for a policy any part of which is learning, for then its dropout would be attacked; and for one whose
    trunk sees no picture."""
    if not vla.see:
        raise BuildError("an attack on a policy whose trunk sees nothing", "see=(role, ...)", "attack another")
    if learning := [name for name, m in vla.named_modules() if m.training]:
        raise BuildError(f"an attack on a policy that learns ({learning[0] or 'all of it'})", "eval()", "call .eval()")


def conditions(vla: Any, obs: Observation, state: State, pictures: Mapping[str, Tensor]) -> Context:
    """What `VLA.think` gives, with gradients to `pictures` {role: (B,T,3,h,w) in [0, 1]}, which are seen instead of the
    observation's. BuildError where a transform changes pictures, so that these are not what the policy sees."""
    told = obs
    for t in vla.transforms:
        told, state = t.act(told, state)
    if changed := [role for role in pictures if not np.array_equal(told.images[role], obs.images[role])]:
        what = f"a transform of the policy changes picture '{changed[0]}'"
        raise BuildError(what, "pictures that the policy sees as they are", "leave the transform out")
    inputs = vla.prepare(told)
    inputs = replace(inputs, pixels={**inputs.pixels, **pictures})
    return vla.condition(told, inputs, state)[0]


@contextmanager
def embedded(backbone: Any, ids: Tensor) -> Iterator[list[Tensor]]:
    """While it is open, the list grows by what these ids (B,n) are embedded as, (B,n,D), a leaf to take gradients of
    each time that they are."""
    leaves: list[Tensor] = []

    def hook(module: Any, given: tuple[Tensor, ...], out: Tensor) -> Tensor | None:
        if given[0].shape != ids.shape or not bool((given[0] == ids).all()):
            return None
        leaves.append(out.detach().requires_grad_())
        return leaves[-1]

    handle = backbone.embedding.register_forward_hook(hook)
    try:
        yield leaves
    finally:
        handle.remove()


def projected(x: Tensor, clean: Tensor, eps: float) -> Tensor:
    """The nearest picture that is nowhere further than `eps` from the clean one, in [0, 1]."""
    return (clean + (x - clean).clamp(-eps, eps)).clamp(0, 1)


def ascend(
    score: Callable[[Tensor], Tensor],
    clean: Tensor,
    start: Tensor,
    *,
    eps: float,
    alpha: float,
    steps: int,
    before: Callable[[int, Tensor], None] = lambda step, x: None,
) -> Tensor:
    """Projected gradient ascent (Madry et al., 1706.06083): `steps` of alpha times the sign of the gradient of the
    summed score. clean, start: pixels of one shape, start = clean + noise. before: called at every step's beginning."""
    x = projected(start, clean, eps)
    for step in range(steps):
        before(step, x)
        leaf = x.clone().requires_grad_()
        with torch.enable_grad():
            (slope,) = torch.autograd.grad(score(leaf).sum(), leaf)
        x = projected(x + alpha * slope.sign(), clean, eps)
    return x


def eight_bits(x: Tensor, clean: np.ndarray, eps: float) -> np.ndarray:
    """Pixels (T,3,h,w) as a picture uint8 (T,h,w,3), no further than `eps` from the clean one: what a camera could have
    given."""
    most = int(eps * 255 + 1e-6)
    near = (x.detach().cpu().double() * 255).round().numpy().transpose(0, 2, 3, 1).astype(np.int64)
    clean = clean.astype(np.int64)
    return np.clip(clean + np.clip(near - clean, -most, most), 0, 255).astype(np.uint8)


def harder(
    score: Callable[[Tensor, Sequence[str]], Tensor],
    vla: Any,
    prompts: Sequence[str],
    x: Tensor,
    synonyms: Synonyms,
    pick: Callable[[Sequence[str]], str],
    held: frozenset[str] = frozenset(),
) -> list[str]:
    """One text step against an attack that raises `score` (pixels, prompts) -> (P,): in each prompt the word, of those
    with synonyms, whose embedding has the largest gradient gives way to one of them, unless the score rose, or the new
    prompt is `held` for a test. Of embeddings, gradients are taken of the instruction's words alone."""
    words = vla.backbone.words
    with torch.enable_grad(), embedded(vla.backbone, words.questions(prompts).ids.to(vla.device)) as leaves:
        now = score(x, prompts)
        slopes = torch.autograd.grad(now.sum(), leaves, allow_unused=True)
    size = sum((s.square().sum(-1) for s in slopes if s is not None), torch.zeros_like(leaves[0][..., 0]))
    others = []
    for text, row in zip(prompts, size.tolist()):
        offsets = words.tokenizer.encode(text, add_special_tokens=False).offsets  # behind the cue
        best, other = -1.0, text
        for m in re.finditer(r"[A-Za-z]+", text):
            ways = [w for w in synonyms(m[0].lower()) if w != m[0].lower()]
            steep = sum(g for g, (a, b) in zip(row[len(words.cue(ASK)) :], offsets) if a < m.end() and m.start() < b)
            if ways and steep > best:
                best, other = steep, text[: m.start()] + pick(ways) + text[m.end() :]
        others.append(text if other in held else other)
    with torch.no_grad():
        then = score(x, others)
    return [o if b <= a else p for p, o, a, b in zip(prompts, others, now.tolist(), then.tolist())]
