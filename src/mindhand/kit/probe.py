"""A small head on hidden states: where a hand is heard, and how the head is kept.

What is heard is what enters the hand's last layer, the module named `leave`: its last hidden states, before they become
velocities, noise or scores. A head that learned from them is worth nothing on another policy's, so it is kept beside
the fingerprint of the policy that it was fitted on, and refused for any other.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mindhand.core.errors import BadCheckpoint, BuildError
from mindhand.core.folder import Tensors, as_bytes, read_manifest, settled, write_folder
from mindhand.core.nouns import ActionChunk, Observation, Proposals
from mindhand.core.seams import Draw, State

KIND, ABOUT, LAST = "probe", "probe.json", "leave"
POOLS = ("first", "last", "mean")  # of what is heard of a chunk's tokens


def last_layer(hand: nn.Module) -> nn.Module:
    """The one module of a hand that is named `leave`. BuildError where there is none, or several."""
    found = [m for name, m in hand.named_modules() if name.split(".")[-1] == LAST]
    if len(found) != 1:
        what = f"{type(hand).__name__} with {len(found)} layers named '{LAST}'"
        raise BuildError(
            what, "a hand with one last layer behind its hidden states", "choose flow, diffusion or tokens"
        )
    return found[0]


@contextmanager
def listening(hand: nn.Module) -> Iterator[list[Tensor]]:
    """While it is open, the list grows by what enters the hand's last layer, a call each: (N,H,W), or (N,W)."""
    calls: list[Tensor] = []
    handle = last_layer(hand).register_forward_pre_hook(lambda module, given: calls.append(given[0].detach()))
    try:
        yield calls
    finally:
        handle.remove()


def _said(calls: Sequence[Tensor], draw: Draw) -> tuple[Tensor, Tensor]:
    """Hidden states of the action tokens (N,n,W) of N rows and samples, and how many of them count (N,): those of the
    last call, the end of a walk from noise; of a hand that says tokens, one a call, up to the sample's own end."""
    rows, samples = draw.value.shape[:2]
    if not calls or len(calls[-1]) != rows * samples:
        have = len(calls[-1]) if calls else 0
        raise BuildError(f"{have} rows heard of {rows} x {samples} samples", "one a sample", "choose another hand")
    every = calls[-1] if calls[-1].ndim == 3 else torch.stack(list(calls), 1)
    count = torch.full((len(every),), every.shape[1], device=every.device)
    if draw.valid is not None and draw.valid.shape[-1] == every.shape[1]:
        count = draw.valid.flatten(0, 1).sum(1).to(count)
    return every.float(), count.clamp_min(1)


def last_hidden(calls: Sequence[Tensor], draw: Draw) -> Tensor:
    """float32 (B,S,W), one of each sample: at the first action token in the last call, the end of a walk from noise; of
    a hand that says tokens, behind the last before the sample's own end."""
    every, count = _said(calls, draw)
    at = torch.zeros_like(count) if calls[-1].ndim == 3 else count - 1
    return every[torch.arange(len(every), device=every.device), at].unflatten(0, draw.value.shape[:2])


def pooled(calls: Sequence[Tensor], draw: Draw) -> Tensor:
    """float32 (B,S,3,W) in the order of `POOLS`: the first and the last of a sample's action tokens that count, and
    their mean."""
    every, count = _said(calls, draw)
    rows = torch.arange(len(every), device=every.device)
    inside = torch.arange(every.shape[1], device=every.device) < count.unsqueeze(1)
    mean = torch.where(inside.unsqueeze(2), every, 0).sum(1) / count.unsqueeze(1)
    return torch.stack([every[:, 0], every[rows, count - 1], mean], 1).unflatten(0, draw.value.shape[:2])


def acted(policy: Any, obs: Observation, state: State, want: Sequence[str] = ()) -> tuple[ActionChunk, Tensor, State]:
    """What a VLA's `act` gives, bit for bit, and between chunk and state its features float16 (B,3,W) (`pooled`): in
    the precision that they are recorded in, so that what learned from a recording is asked the same."""
    with listening(policy.expert) as calls:
        chunk, after = policy.act(obs, state, want=(*want, "draw"))
    told = pooled(calls, chunk.extra["draw"])[:, 0].half()
    kept = {n: x for n, x in chunk.extra.items() if n != "draw" or {"draw", "chain"} & {*want}}
    return replace(chunk, extra=kept), told, after


def heard(policy: Any, obs: Observation, state: State, samples: int, **how: Any) -> tuple[Proposals, Tensor, State]:
    """Chunks of a VLA on one prefix, with their draw, the last hidden state of each (B,S,W), and the state after. how:
    of `propose`."""
    with listening(policy.expert) as calls:
        told, after = policy.propose(obs, state, samples, **{**how, "want": (*how.get("want", ()), "draw")})
    return told, last_hidden(calls, told.extra["draw"]), after


def fingerprint(policy: Any) -> str:
    """12 hexadecimal digits of a VLA's weights, without those of objectives, and of its statistics."""
    digest = hashlib.sha256(json.dumps(policy.statistics(), sort_keys=True).encode())
    for told in as_bytes({n: x for n, x in policy.state_dict().items() if not n.startswith("objectives.")}):
        digest.update(told)
    return digest.hexdigest()[:12]


def belongs(of: str, policy: Any, name: str) -> None:
    """BuildError unless a head that was fitted on `of` is put on that policy."""
    if (here := fingerprint(policy)) != of:
        what = f"'{name}' fitted on policy {of}, round policy {here}"
        raise BuildError(what, "the policy whose hidden states it learned", f"fit '{name}' on this policy")


@dataclass(frozen=True)
class Stored:
    """A head as it was kept: of which policy, what it says of itself, its tensors."""

    of: str
    about: dict[str, Any]
    tensors: Tensors


def save_probe(folder: Path | str, name: str, of: str, about: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Write a head of the method `name`, atomically. of: the policy's fingerprint; about: plain JSON."""
    text = json.dumps({"name": name, "of": of, "about": about}, indent=1, sort_keys=True, allow_nan=False)
    write_folder(Path(folder), KIND, {ABOUT: (text + "\n").encode()}, tensors)


def load_probe(folder: Path | str, name: str) -> Stored:
    """The head that was saved; BadCheckpoint for a folder that is not whole, and for another method's."""
    folder = settled(folder)
    manifest = read_manifest(folder, KIND)
    stored = json.loads((folder / ABOUT).read_text())
    if stored["name"] != name:
        raise BadCheckpoint(f"{folder}: a probe of '{stored['name']}'", f"one of '{name}'", "give the other folder")
    return Stored(stored["of"], stored["about"], Tensors(folder, manifest))


def digest(folder: Path | str) -> str:
    """12 hexadecimal digits of a probe that was kept, whatever its folder is called."""
    folder = settled(folder)
    read_manifest(folder, KIND)
    return hashlib.sha256((folder / "manifest.json").read_bytes()).hexdigest()[:12]
