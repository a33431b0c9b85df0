"""The VLA: ordinary parts wired together. Trains (losses of a batch) and acts (a Policy).

prepare -> streams to the trunk -> trunk (pictures, their tokens, prompt) -> reasoning (given in training, written when
acting) -> streams to the expert -> expert.
Slots are constructor arguments, stacks are lists; `core.parts.resolve` refuses what does not fit.
Named losses hold a value a row such that their mean over rows is the batch's loss: every supervised token counts
the same, whatever row it stands in, and the action error averages over robot rows only (2505.21906 and lineage).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mindhand.core.batch import Batch, Text, token_mean
from mindhand.core.errors import BadData, BuildError
from mindhand.core.keys import Key, Keys
from mindhand.core.nouns import ActionChunk, Observation, Proposals, Reasoning
from mindhand.core.parts import apply_edits, resolve
from mindhand.core.seams import (
    Code,
    Context,
    Draw,
    Edit,
    Inputs,
    Objective,
    Patches,
    Rule,
    Sampler,
    Segment,
    State,
    StreamOut,
    Transform,
    Turn,
)
from mindhand.core.spec import Spec

from . import fits, hearing
from .codec import StateScale
from .observed import check_observed
from .steady import FILL, filled, steady
from .streams import behind, cameras, check_streams, joined, run_streams, start_streams
from .thinking import reason, remembered, unthought
from .trunk import Trunk
from .vision import pixels
from .words import SAY

EXTRA = "extra/"  # what a target's name begins with that is an observation's extra


class VLA(nn.Module):
    """A vision-language-action model. `see`: the camera roles the trunk reads; others are for streams.

    Without an expert it is a VLM with objectives (its action head is closed): pretraining and warm-up.
    """

    def __init__(
        self,
        *,
        spec: Spec,
        backbone: Any,
        expert: Any = None,
        codec: Any = None,
        reasoner: Any = None,
        streams: Sequence[Any] = (),
        sampler: Sampler | None = None,
        transforms: Sequence[Transform] = (),
        objectives: Sequence[Objective] = (),
        edits: Sequence[Edit] = (),
        see: Sequence[str] = ("front",),
    ):
        super().__init__()
        self.plan = resolve(
            {"backbone": backbone, "codec": codec, "expert": expert, "sampler": sampler, "reasoner": reasoner},
            {"streams": streams, "transforms": transforms, "objectives": objectives, "edits": edits},
        )
        for role in see:
            spec.camera(role)
        if see and not self.plan.has("image"):
            raise BuildError(f"{type(backbone).__name__} (slot backbone) sees no picture", f"eyes for {see}", "see=()")
        check_streams(streams, self.plan)
        self.spec, self.see = spec, tuple(see)
        self.backbone, self.expert, self.codec = backbone, expert, codec
        self.reasoner, self.sampler = reasoner, sampler
        self.streams = nn.ModuleList(streams)
        self.transforms, self.edits = list(transforms), list(edits)
        self.objectives = nn.ModuleList(objectives)  # objectives may hold weights
        self.state_scale = StateScale(spec.state_size)
        self.provides: frozenset[str] = frozenset({fits.PROPOSES, fits.TRUNK, *hearing.provided(expert)})
        apply_edits(self, edits)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    @staticmethod
    def wanted(parts: Iterable[Any]) -> list[int]:
        """Layers of the trunk that these parts read besides the last (their `want`)."""
        return sorted({l for p in parts for l in getattr(p, "want", ())})

    # ---- one model, both ways ------------------------------------------------------------------------

    def image_segments(
        self, inputs: Inputs, task: Tensor | None = None, ask: Text | None = None
    ) -> tuple[list[Segment], Tensor | int]:
        """What the trunk's cameras see, as segments, and the next free position, as the backbone counts. ask: the one
        thing that is asked of each row."""
        roles = [r for r in self.see if r in inputs.pixels]
        put = self.device
        about = None if ask is None else token_mean(self.backbone.embed(ask.ids.to(put)), ask.valid.to(put))
        seen: dict[str, Patches] = self.backbone.see({r: inputs.pixels[r] for r in roles}, about)
        segments, start = [], 0
        for role, p in seen.items():
            valid = p.valid & inputs.present[role].unsqueeze(1)
            place, start = self.backbone.place(p.grid, valid, start)
            segments.append(Segment(f"image/{role}", p.x, valid, place, task=task))
        return segments, start

    def prefix(
        self,
        inputs: Inputs,
        streams: Mapping[str, StreamOut],
        task: Tensor,
        order: Sequence[str] = (),
        ask: Text | None = None,
    ) -> tuple[list[Segment], dict[str, Segment], Tensor | int, Rule]:
        """What precedes the text: pictures and tokens of streams to the trunk. Returns these segments, those that
        `order` places elsewhere, the next free position, and the rule that the streams bring, before the backbone's."""
        segments, free = self.image_segments(inputs, task, ask)
        placed: dict[str, Segment] = {}
        for s in (s for out in streams.values() for s in out.segments):
            s = replace(s, task=task) if s.task is None else s
            if s.name in order:
                placed[s.name] = s
            else:
                segments.append(s)
                free = behind(free, s)
        return segments, placed, free, (*(r for out in streams.values() for r in out.rule), *self.backbone.rule)

    # ---- training ------------------------------------------------------------------------------------

    def inputs(self, batch: Batch) -> Inputs:
        """Pixels and normalised state of a batch, and what else streams may read (`Inputs.more`): targets "gaze..."
        and an observation's extras, under the names that acting gives them: a target "extra/points" is "points"."""
        images = {role: pixels(x) for role, x in batch.images.items()}
        state = None if batch.state is None else self.state_scale(batch.state)
        more = {n.removeprefix(EXTRA): t.value for n, t in batch.targets.items() if n.startswith(("gaze", EXTRA))}
        rows = {"episode": batch.episode, "step": batch.step, "embodiment": batch.embodiment}
        more.update((n, x) for n, x in rows.items() if x is not None)
        return Inputs(images, batch.present, state, more)

    def trunk(
        self, batch: Batch, inputs: Inputs, want: Sequence[int] = (), streams: Mapping[str, StreamOut] | None = None
    ) -> Trunk:
        """The pass of a batch, all text given. streams: outputs of those to the trunk, which run here if not given.
        Their segments stand where the batch's order names them, or else behind the pictures, as they do when acting.

        Several questions a picture share its prefix in one pass: as segments "text@0", "text@1", ... that do not
        see each other. It costs two thirds of forking the prefix, whose keys and values would be copied a question.
        """
        many = batch.questions
        if streams is None:
            streams = run_streams(self.streams, inputs, None, start_streams(self.streams, len(batch)))
        ask = batch.text.get("text") if many == 1 else None
        segments, placed, end, rule = self.prefix(inputs, streams, batch.task.view(-1, many)[:, 0], batch.order, ask)
        if many > 1:
            rule = (*((f"*@{q}", f"*@{q}", "causal") for q in range(many)), ("*@*", "*@*", "none"), *rule)
        for q in range(many):
            start = end
            for name in batch.order:
                if name in placed:
                    if many > 1:
                        raise BuildError(
                            f"'{name}' in the order of a batch with {many} questions a picture",
                            "tokens that all questions share, behind the pictures",
                            "leave it out of the order, or give one question a row",
                        )
                    segments.append(placed[name])
                    start = behind(start, placed[name])
                if name in batch.text:
                    t = batch.text[name]
                    ids, valid = trimmed(t.ids[q::many], t.valid[q::many])
                    label = name if many == 1 else f"{name}@{q}"
                    segments.append(self.backbone.text(label, ids, valid, start, task=batch.task[q::many]))
                    start = start + valid.sum(1)
        if many > 1:  # so many lengths that each sum of them would be a new size (`steady`)
            segments.append(filled(segments))
            rule = ((FILL, "*", "none"), ("*", FILL, "none"), *rule)
        return self.backbone(segments, rule=rule, want=want)

    def context(self, batch: Batch, want: Sequence[int] = ()) -> Context:
        """All that conditions the hand, from a batch. A batch of remembered thoughts needs no pass."""
        want = sorted({*want, *self.wanted(self.streams)})
        inputs, states = self.inputs(batch), start_streams(self.streams, len(batch))
        trunk, before = remembered(batch, self.backbone), {}
        if trunk is None:
            before = run_streams(self.streams, inputs, None, states)
            trunk = self.trunk(batch, inputs, want, before)
        acts = self.expert is not None and batch.actions is not None
        return Context(trunk, joined(before, run_streams(self.streams, inputs, trunk, states) if acts else {}), inputs)

    def losses(self, batch: Batch, keys: Keys) -> dict[str, Tensor]:
        """Named losses, a value a row: "text", "action", those of streams and objectives."""
        ctx = self.context(batch, self.wanted(self.objectives))
        out: dict[str, Tensor] = {}
        replaced = frozenset().union(*(o.replaces for o in self.objectives)) if len(self.objectives) else frozenset()
        if "text" not in replaced and any(bool(t.supervised.any()) for t in batch.text.values()):
            out["text"] = self.text_loss(batch, ctx.trunk)
        acts = self.expert is not None and batch.actions is not None and batch.action_valid is not None
        if acts and "action" not in replaced:
            code = self.codec.encode(batch.actions, batch.action_valid, batch.state)
            robot = batch.action_valid.any(1)
            for name, value in self.expert.loss(ctx, code, keys).items():
                out[name] = value * len(robot) / robot.sum().clamp_min(1)
        for stream in ctx.streams.values():
            out.update(stream.losses)
        for i, objective in enumerate(self.objectives):
            out.update(objective.loss(self, batch, ctx, keys.fold("objective", i)))
        return out

    def text_loss(self, batch: Batch, trunk: Trunk) -> Tensor:
        """Cross-entropy of supervised tokens, summed a row and scaled so that all tokens weigh the same: (B*Q,)."""
        rows, device = batch.task.shape[0], batch.task.device
        found: list[tuple[Tensor, Tensor, Tensor]] = []  # hidden states, what is to follow, and of which row
        for name, t in batch.text.items():
            target = t.supervised[:, 1:]
            if not bool(target.any()):
                continue
            many = batch.questions
            for q in range(many):  # a question at a time: their runs are trimmed to different lengths
                hidden = trunk.hidden[name if many == 1 else f"{name}@{q}"][:, :-1]
                here = target[q::many, : hidden.shape[1]]
                ids = t.ids[q::many, 1 : 1 + hidden.shape[1]][here]
                found.append((hidden[here], ids, here.nonzero()[:, 0] * many + q))
        if not found:
            return torch.zeros(rows, device=device)
        hidden, ids, row = (torch.cat(x) for x in zip(*found))
        more = steady(len(ids)) - len(ids)
        scores = self.backbone.logits(F.pad(hidden, (0, 0, 0, more)))[: len(ids)]
        error = F.cross_entropy(scores.float(), ids, reduction="none")
        return torch.zeros(rows, device=device).index_add(0, row, error) * rows / max(len(ids), 1)

    # ---- acting --------------------------------------------------------------------------------------

    def start(self, keys: Sequence[Key]) -> State:
        """Fresh state for the rows of these episodes; a row's counters are its own."""
        rows, streams = len(keys), start_streams(self.streams, len(keys))
        kept = {} if self.reasoner is None else {"thoughts": unthought(rows, self.spec.state_size)}
        return {"query": np.zeros(rows, np.int64), "streams": streams, **kept}

    def prepare(self, obs: Observation) -> Inputs:
        """Observation -> differentiable pixels, normalised state, extras and time, on the model's device. SpecMismatch
        for one that does not show every camera the trunk or a stream looks through (`check_observed`)."""
        check_observed(obs, self.spec, {*self.see, *cameras(self.streams)})

        def put(x: np.ndarray) -> Tensor:
            return torch.from_numpy(np.require(x, requirements="CW")).to(self.device)  # of frozen arrays a copy

        images = {role: pixels(put(x)) for role, x in obs.images.items()}
        present = {role: put(p) for role, p in obs.present.items()}
        more = {**{n: put(x) for n, x in obs.extras.items()}, "time": put(obs.time.astype(np.float32))}
        return Inputs(images, present, self.state_scale(put(obs.state)), more)

    @torch.no_grad()
    def think(self, obs: Observation, state: State) -> tuple[Context, State]:
        """See, read the instruction, reason. "forced" in `state`, or an observed text "thought", is the thought."""
        for t in self.transforms:
            obs, state = t.act(obs, state)
        return self.condition(obs, self.prepare(obs), state)

    def condition(self, obs: Observation, inputs: Inputs, state: State) -> tuple[Context, State]:
        """The same of inputs that are prepared, with gradients to them where they are asked for."""
        ask = self.backbone.words.questions(obs.text["instruction"])
        task = torch.ones(len(obs), dtype=torch.int64, device=self.device)
        before = run_streams(self.streams, inputs, None, state["streams"])
        segments, _, end, rule = self.prefix(inputs, before, task, ask=ask)
        text = self.backbone.text("text", ask.ids, ask.valid, end, task=task)
        trunk, said = self.backbone([*segments, text], rule=rule, want=self.wanted(self.streams)), None
        if (how := self.reasoner) is not None:
            trunk, said, state = reason(self.backbone, how, trunk, obs, state, self._keys(obs, state).fold("reason"))
        streams = joined(before, run_streams(self.streams, inputs, trunk, state["streams"]))
        after = {name: streams[name].state for name in state["streams"]}
        return Context(trunk, streams, inputs, said), {**state, "streams": after}

    @torch.no_grad()
    def look(self, images: np.ndarray) -> Trunk:
        """The pass over uint8 pictures (B,h,w,3), as the first camera it sees gives them: all questions stand on it."""
        c = self.spec.camera((*self.see, *self.spec.roles)[0])  # none, where a stream does all the seeing
        if images.dtype != np.uint8 or not images.size or images.shape[1:] != (c.height, c.width, 3):
            wanted = f"uint8 (pictures, {c.height}, {c.width}, 3) of at least one, as camera '{c.role}' gives them"
            raise BadData(f"pictures of {images.dtype} {images.shape}", wanted, "fit each to that size, and stack them")
        x = pixels(torch.from_numpy(np.require(images, requirements="CW")).unsqueeze(1).to(self.device))
        on = torch.ones(len(images), dtype=torch.bool, device=self.device)
        inputs = Inputs({c.role: x}, {c.role: on}, None)
        streams = run_streams(self.streams, inputs, None, start_streams(self.streams, len(images)))
        segments, _, _, rule = self.prefix(inputs, streams, torch.zeros_like(on, dtype=torch.int64))
        return self.backbone(segments, rule=rule)

    @torch.no_grad()
    def answer(self, seen: np.ndarray | Trunk, questions: Sequence[Sequence[str]], limit: int = 24) -> list[list[str]]:
        """Chat: B pictures, or what `look` made of them, and Q questions about each -> Q answers each."""
        trunk = self.look(seen) if isinstance(seen, np.ndarray) else seen
        counts, rows, many = [len(q) for q in questions], len(trunk.end), len(questions[0]) if questions else 0
        if not many or counts != [many] * rows:
            raise BadData(f"{counts} questions about {rows} pictures", "as many about each", "ask in several calls")
        ask, trunk = self.backbone.words.questions([q for row in questions for q in row]), trunk.fork(many)
        trunk = trunk.extend([self.backbone.text("text", ask.ids, ask.valid, trunk.end)])
        _, said = self.backbone.generate(trunk, [Turn(SAY, limit)], keys=Keys.seeded(rows * many, "answer"))
        return [said[i * many : (i + 1) * many] for i in range(rows)]

    @torch.no_grad()
    def act(self, obs: Observation, state: State, *, want: Sequence[str] = ()) -> tuple[ActionChunk, State]:
        """One chunk a row; its extra always counts the decodings that had to be replaced, "errors" (B,). `want`: "gaze"
        (pixels looked at), "context", "draw", "chain" (a draw with all visited states), "hidden" (float32 (B,3,W), what
        the hand felt, `hearing.pooled`), and what the expert knows."""
        (chunk,), extra, thought, state = self._drawn(obs, state, 1, want)
        extra |= {n: extra[n][:, 0] for n in extra.keys() & {fits.HIDDEN}}
        return replace(chunk, reasoning=thought, extra={**chunk.extra, **extra}), state

    @torch.no_grad()
    def propose(
        self,
        obs: Observation,
        state: State,
        samples: int,
        *,
        noise: np.ndarray | None = None,
        temperature: float = 1.0,
        want: Sequence[str] = (),
    ) -> tuple[Proposals, State]:
        """`samples` chunks a row on one prefix, the first of them what `act` draws; `temperature` scales the starting
        noise. `want` as of `act`: the draw of all samples, with the ids or states that a density is asked of, and what
        was felt of each."""
        z = None if noise is None else torch.from_numpy(np.ascontiguousarray(noise)).to(self.device).float()
        chunks, extra, thought, state = self._drawn(obs, state, samples, want, noise=z, temperature=temperature)
        actions, valid = (np.stack([getattr(c, f) for c in chunks], 1) for f in ("actions", "valid"))
        errors = np.stack([c.extra["errors"] for c in chunks], 1)
        return Proposals(actions, valid, extra={"errors": errors, **extra}, reasoning=thought), state

    def _drawn(
        self, obs: Observation, state: State, samples: int, want: Sequence[str], **how: Any
    ) -> tuple[list[ActionChunk], dict[str, Any], Reasoning | None, State]:
        """One query: so many chunks a row, what is wanted besides, the thought, the state after it."""
        ctx, state = self.think(obs, state)
        keys = self._keys(obs, state).fold("act")
        draw, extra = hearing.drawn(self.expert, want, ctx, samples, keys=keys, sampler=self.sampler, **how)
        extra |= {"context": ctx} if "context" in want else {}
        if "draw" in want or "chain" in want:
            extra["draw"] = draw
        if "gaze" in want:
            looked = (o.state["centre"] for o in ctx.streams.values() if "centre" in o.state)
            extra["gaze"] = next((x.cpu().numpy() for x in looked), None)
        chunks = [self._decode(draw, s, obs) for s in range(samples)]
        return chunks, extra, ctx.reasoning, {**state, "query": state["query"] + 1}

    def _keys(self, obs: Observation, state: State) -> Keys:
        return Keys.of(obs.keys).fold_each([int(q) for q in state["query"]])

    def _decode(self, draw: Draw, sample: int, obs: Observation) -> ActionChunk:
        value = draw.value[:, sample]
        every = value.new_ones(value.shape[:2], dtype=torch.bool)
        valid = every if draw.valid is None else draw.valid[:, sample]
        decoded = self.codec.decode(Code(value, valid), torch.from_numpy(obs.state).to(value.device))
        return ActionChunk(decoded.actions, decoded.valid, extra={"errors": decoded.errors})

    # ---- what a checkpoint stores beside weights -------------------------------------------------------

    def statistics(self) -> dict[str, Any]:
        """Of actions and state, by which codecs normalise."""
        if self.codec is None:
            return {}
        return {"action": self.codec.statistics(), "state": self.state_scale.statistics()}

    def load_statistics(self, stored: Mapping[str, Any]) -> None:
        """The inverse."""
        self.codec.load_statistics(stored["action"])
        self.state_scale.load_statistics(stored["state"])


def trimmed(ids: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """Text without the columns at its end that are padding in every row."""
    longest = int(valid.any(0).nonzero().max()) + 1 if bool(valid.any()) else 1
    return ids[:, :longest], valid[:, :longest]
