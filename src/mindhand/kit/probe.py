"""A small head on a policy's hidden states: how it is asked for them, and how the head is kept.

They are what the policy tells where "hidden" is wanted of it (`model/hearing.py`). A head that learned from them is
worth nothing on another policy's, so it is kept beside the fingerprint of the policy that it was fitted on, and refused
for any other: also for that one with something more round it, or less.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from mindhand.core.errors import BadCheckpoint, BuildError
from mindhand.core.folder import Tensors, as_bytes, read_manifest, settled, write_folder
from mindhand.core.nouns import ActionChunk, Observation, Proposals
from mindhand.core.seams import State
from mindhand.model import fits
from mindhand.model.hearing import last_hidden, last_layer, listening

KIND, ABOUT = "probe", "probe.json"


def innermost(policy: Any) -> Any:
    """The VLA in a policy, through all that goes round it (`base`); None where there is none."""
    while policy is not None and fits.TRUNK not in policy.provides:
        policy = getattr(policy, "base", None)
    return policy


def told(policy: Any) -> str:
    """A policy and what is inside, for who refuses it: "Safe round VLA"."""
    inside = getattr(policy, "base", None)
    return type(policy).__name__ + (f" round {told(inside)}" if inside is not None else "")


def felt(policy: Any, name: str) -> None:
    """BuildError unless a policy tells what its hand feels. name: of who asks it."""
    if fits.HIDDEN not in policy.provides:
        if fits.TRUNK in policy.provides:
            last_layer(policy.expert)
        what = f"'{name}' round {told(policy)}, which does not tell what its hand feels"
        raise BuildError(what, f"one that provides '{fits.HIDDEN}'", "put it round a VLA, or what hands it on")


def acted(policy: Any, obs: Observation, state: State, want: Sequence[str] = ()) -> tuple[ActionChunk, Tensor, State]:
    """What `act` gives, bit for bit, and between chunk and state its features float16 (B,3,W) (`hearing.pooled`): in
    the precision that they are recorded in, so that what learned from a recording is asked the same."""
    chunk, after = policy.act(obs, state, want=(*want, fits.HIDDEN))
    kept = {n: x for n, x in chunk.extra.items() if n != fits.HIDDEN or n in want}
    return replace(chunk, extra=kept), chunk.extra[fits.HIDDEN].half(), after


def heard(policy: Any, obs: Observation, state: State, samples: int, **how: Any) -> tuple[Proposals, Tensor, State]:
    """Chunks of a VLA on one prefix, with their draw, the last hidden state of each (B,S,W), and the state after. how:
    of `propose`."""
    with listening(policy.expert) as calls:
        told, after = policy.propose(obs, state, samples, **{**how, "want": (*how.get("want", ()), "draw")})
    return told, last_hidden(calls, told.extra["draw"]), after


def fingerprint(policy: Any) -> str:
    """12 hexadecimal digits of a VLA's weights, without those of objectives, and of its statistics; of what goes round
    one, of what is inside, of its kind, its config, and the networks that it brings."""
    if fits.TRUNK in policy.provides:
        digest = hashlib.sha256(json.dumps(policy.statistics(), sort_keys=True).encode())
        nets = {n: x for n, x in policy.state_dict().items() if not n.startswith("objectives.")}
    else:
        digest = hashlib.sha256(f"{type(policy).__name__} {policy.config} {fingerprint(policy.base)}".encode())
        vla = innermost(policy)
        own = {n: x for n, x in vars(policy).items() if isinstance(x, nn.Module) and x is not vla}
        nets = {f"{n}.{k}": x for n, net in own.items() for k, x in net.state_dict().items()}
    for part in as_bytes(nets):
        digest.update(part)
    return digest.hexdigest()[:12]


def belongs(of: str, policy: Any, name: str) -> None:
    """BuildError unless a head that was fitted on `of` is put on that policy."""
    if (here := fingerprint(policy)) != of:
        what = f"'{name}' fitted on policy {of}, round {told(policy)}, which is {here}"
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
