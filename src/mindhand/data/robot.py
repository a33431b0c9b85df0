"""Robot frames as training rows: chunks of commands, the thought of their sub-step, and where it looks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from mindhand.core.batch import Batch, Target, Text
from mindhand.core.errors import BadData
from mindhand.core.keys import Key, Keys
from mindhand.core.nouns import Observation
from mindhand.core.seams import Transform, Turn
from mindhand.model.asking import taught
from mindhand.model.words import SAY, Words

from .cache import FrameCache
from .episodes import gather
from .mixture import Mixture
from .reader import Reader
from .record import GAZE
from .synthetic.grounding import deed, look_target, looks
from .synthetic.samples import ImageText, Pixel

FRONT = "front"


@dataclass(frozen=True)
class RobotFrames:
    """Frames of a dataset, ready to be batched. `horizon` H commands follow each; `camera` is the trunk's.

    jitter: how far (pixels, each way) the hand's gaze is moved at random while it learns, so that it forgives the
    pointer a cell. `words_of` may rewrite a thought (drop coordinates, blank it). transforms: the model's own; the
    sample of a frame holds "instruction", "state" (S,) and "images" {role: uint8 (h,w,3)}, and the batch what they make
    of them; and, for those that draw or tell what is known of it, the dataset's "labels" {name: (k,)}. turns: what is
    said instead of the dataset's thoughts, by a reasoner that has its own: global frames (n,), what is asked of them
    and their keys -> given turns of n rows. Labels other than gaze are targets of a batch by their own names, (n,k),
    each number valid that is one; they are of frames as recorded, whatever transforms make of these.
    """

    reader: Reader
    cache: FrameCache
    words: Words
    horizon: int
    camera: str = FRONT
    jitter: float = 8.0
    words_of: Callable[[str], str] = str
    transforms: Sequence[Transform] = ()
    turns: Callable[[np.ndarray, list[str], Keys], list[Turn]] | None = None

    def chunks(self, index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Actions (n,H,A) that follow global frames, and bool (n,H): False after the episode's end."""
        end = self.reader.ends[np.searchsorted(self.reader.begins, index, "right") - 1]
        return gather(self.reader.action, index, end, self.horizon)

    def gaze(self, index: np.ndarray, label: str = "gaze") -> np.ndarray:
        """Pixels float32 (n,4) of what is looked at and of its tip (record.gaze), NaN where no label says."""
        known = self.reader.label(label)
        if known is not None and known.shape[1] != GAZE[label]:
            raise BadData(
                f"label '{label}' of {known.shape[1]} numbers",
                f"{GAZE[label]}: the pixel of what is looked at, and that of its tip",
                "record the demonstrations again: mindhand data record",
            )
        return np.full((len(index), GAZE[label]), np.nan, np.float32) if known is None else known[index]

    def thoughts(self, index: np.ndarray) -> list[str]:
        """The text to be said at each frame."""
        return [self.words_of(self.reader.reasoning(int(i))) for i in index]

    def transformed(self, index: np.ndarray, keys: Keys) -> tuple[list[str], np.ndarray, dict[str, np.ndarray]]:
        """What the transforms make of frames: instructions, states (n,S) and pictures {role: (n,h,w,3)}. BadData where
        one comes back in another shape."""
        words, state = [self.reader.instruction(int(i)) for i in index], self.reader.state[index]
        images = {c.role: self.cache.images(c.role, index) for c in self.reader.spec.cameras}
        labels = {name: x[index] for name, x in self.reader.labels().items()} if self.transforms else {}
        for k, rng in enumerate(keys.fold("transforms").generators() if self.transforms else ()):
            sample: dict[str, Any] = {"instruction": words[k], "state": state[k]}
            sample |= {"images": {r: x[k] for r, x in images.items()}, "labels": {n: x[k] for n, x in labels.items()}}
            for t in self.transforms:
                sample = t.train(sample, rng)
            whole = {**images, "state": state}
            for name, x in {**sample["images"], "state": sample["state"]}.items():
                if name not in whole or np.shape(x) != whole[name][k].shape:
                    known = {n: w[k].shape for n, w in whole.items()}
                    raise BadData(f"transforms gave '{name}' the shape {np.shape(x)}", f"{known}", "keep what is there")
                whole[name][k] = x
            words[k] = sample["instruction"]
        return words, state, images

    def observe(self, index: np.ndarray) -> Observation:
        """Global frames as a policy would have seen them, for whatever asks one about its data: as recorded (a policy
        transforms what it sees itself). Keys are Key("dataset", "episode/<number>", <frame>): a frame's noise is its
        own, however it is batched."""
        r = self.reader
        episode, step = (x[index].tolist() for x in (r.episode_index, r.frame_index))
        return Observation(
            images={c.role: self.cache.images(c.role, index)[:, None] for c in r.spec.cameras},
            state=r.state[index][:, None],
            text={"instruction": [r.instruction(int(i)) for i in index]},
            time=np.array(step, np.float64)[:, None] / r.spec.rate,
            keys=tuple(Key("dataset", f"episode/{e}", s) for e, s in zip(episode, step)),
        )

    def looks(self, thought: str, gaze: np.ndarray) -> list[Pixel | None]:
        """Where to look while saying each token, and the end: at the tile or its place, from the word that says what to
        do. Who says nothing looks there too."""
        tokens = [self.words.decode([i]) for i in self.words.encode(thought)]
        begin = deed(tokens)
        at = (float(gaze[0]), float(gaze[1])) if np.isfinite(gaze[:2]).all() else None
        return [None] * begin + [at] * (len(tokens) - begin + 1)

    def batch(
        self,
        index: np.ndarray,
        keys: Keys,
        samples: Sequence[ImageText] = (),
        grid: tuple[int, int] = (8, 16),
        kept: Any = None,
    ) -> Batch:
        """Robot rows, then image-text rows of one question each, in one batch (segments common, rows masked).

        keys: one a robot row, for the gaze's jitter. kept: arrays "prompt" and "reasoning" (n,D) of `remember`
        instead of pictures of the trunk and text; or "reasoning" (n,w,D) and which of its tokens are "there" (n,w).
        """
        n, m = len(index), len(samples)
        reader, (asks, states, pictures) = self.reader, self.transformed(index, keys)
        images: dict[str, torch.Tensor] = {}
        present: dict[str, torch.Tensor] = {}
        for camera in reader.spec.cameras:
            seen = torch.from_numpy(np.ascontiguousarray(pictures[camera.role]))
            on = torch.ones(n, dtype=torch.bool)
            if m:
                if camera.role == self.camera:
                    more = torch.from_numpy(np.stack([s.image for s in samples]))
                    extra = torch.ones(m, dtype=torch.bool)
                else:  # a picture of a corpus has no wrist: absent, and masked everywhere
                    more, extra = torch.zeros(m, *seen.shape[1:], dtype=torch.uint8), torch.zeros(m, dtype=torch.bool)
                seen, on = torch.cat([seen, more]), torch.cat([on, extra])
            images[camera.role], present[camera.role] = seen.unsqueeze(1), on

        def padded(x: np.ndarray, fill: float = 0.0) -> torch.Tensor:
            blank = np.full((m, *x.shape[1:]), fill, x.dtype)
            return torch.from_numpy(np.concatenate([x, blank]) if m else x)

        actions, valid = self.chunks(index)
        gaze = self.gaze(index)
        shift = (2 * keys.uniform(2) - 1).astype(np.float32) * self.jitter
        known = padded(np.isfinite(gaze[:, :2]).all(-1), False)
        targets = {
            "gaze": Target(padded(gaze, np.nan), known),
            "gaze/shift": Target(padded(shift), known),
            "gaze/wrist": Target(padded(self.gaze(index, "gaze_wrist"), np.nan), known),
        }
        for name, label in reader.labels().items():
            if name not in GAZE:
                value = label[index]
                targets[name] = Target(padded(value, np.nan), padded(np.isfinite(value), False))
        text = {}
        if kept is None:
            asked = [s.questions[0] for s in samples]
            beside = self.words.answers([q.answer for q in asked], given=[q.given for q in asked])
            if self.turns is None:
                thoughts = self.thoughts(index)
                turns, seen = [Turn(SAY, given=tuple(thoughts))], [self.looks(t, g) for t, g in zip(thoughts, gaze)]
            else:
                turns, seen = self.turns(index, asks, keys), [[] for _ in index]  # nobody says where to look
            text = {
                "text": self.words.questions([*asks, *(q.question for q in asked)]),
                "reasoning": below(taught(self.words, turns), beside, self.words.pad),
            }
            seen += [looks(q, s, self.words) for q, s in zip(asked, samples)]
            camera = reader.spec.camera(self.camera)
            size, cue = (camera.height, camera.width), len(self.words.cue(SAY))
            targets["look"] = look_target(text["reasoning"], seen, size, grid, cue)
        else:
            ones = torch.ones(n, dtype=torch.bool)
            there = torch.from_numpy(kept["there"]) if "there" in kept else ones
            for name, on in (("prompt", ones), ("reasoning", there)):
                targets[f"kept/{name}"] = Target(torch.from_numpy(kept[name]).float(), on)
        return Batch(
            order=(f"image/{self.camera}", *text),
            images=images,
            present=present,
            text=text,
            task=torch.cat([torch.ones(n, dtype=torch.int64), torch.zeros(m, dtype=torch.int64)]),
            state=padded(states).unsqueeze(1),
            actions=padded(actions),
            action_valid=padded(valid, False),
            episode=padded(reader.episode_index[index].astype(np.int64)),
            step=padded(reader.frame_index[index].astype(np.int64)),
            targets=targets,
        )


def below(a: Text, b: Text, pad: int) -> Text:
    """The rows of one run, and under them those of another, as long as the longer."""
    wide = max(a.ids.shape[1], b.ids.shape[1])

    def both(x: torch.Tensor, y: torch.Tensor, fill: int) -> torch.Tensor:
        return torch.cat([F.pad(z, (0, wide - z.shape[1]), value=fill) for z in (x, y)])

    return Text(both(a.ids, b.ids, pad), both(a.valid, b.valid, 0), both(a.supervised, b.supervised, 0))


@dataclass(frozen=True)
class RobotSource:
    """Source: robot frames alone, or mixed with image-text. `corpus(step, row)` gives one image-text sample;
    `kept` (arrays, or what is indexed as they are, by row of `frames.cache.frames`) replaces the trunk's pass for a
    frozen VLM."""

    frames: RobotFrames
    mixture: Mixture
    seed: int = 0
    corpus: Callable[[int, int], ImageText] | None = None
    kept: Mapping[str, Any] | None = None
    grid: tuple[int, int] = (8, 16)

    def batch(self, vla: Any, step: int) -> Batch:
        """The batch of a step, a pure function of it."""
        rows = self.mixture.rows(step)
        robot = np.array([s.kind == "robot" for s in self.mixture.sets])[rows.set]
        index = rows.index[robot]
        samples = [self.corpus(step, i) for i in range(int((~robot).sum()))] if self.corpus is not None else []
        kept = None
        if self.kept is not None:
            at = self.frames.cache.rows(index)
            kept = {name: x[at] for name, x in self.kept.items()}
        keys = Keys.seeded(len(index), self.seed, "robot", step)
        return self.frames.batch(index, keys, samples, self.grid, kept)
