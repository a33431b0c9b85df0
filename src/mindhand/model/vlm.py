"""The VLM: sees, reads, reasons in words. The default occupant of the backbone slot."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from mindhand.core.errors import BuildError
from mindhand.core.keys import Keys
from mindhand.core.seams import CAUSAL, Entry, Keep, Patches, Rule, Segment, Turn, text_position

from . import fits
from .asking import Question, asked, narrowed, taught
from .gemma import GemmaConfig
from .trunk import AnyTower, Tower, TowerConfig, Trunk, run
from .vision import Stem, StemConfig, ViT, ViTConfig
from .vision_qwen25 import WindowViT, WindowViTConfig
from .vision_siglip import SigLIP, SigLIPConfig
from .words import Words

EYES: dict[type, Callable[..., nn.Module]] = {
    ViTConfig: ViT, WindowViTConfig: WindowViT, SigLIPConfig: SigLIP, StemConfig: Stem
}  # fmt: skip


@dataclass(frozen=True)
class VLMConfig:
    """`vision` None makes a language model. Embeddings are tied to the output head (else: `model.untied`)."""

    tower: TowerConfig | GemmaConfig
    vocabulary: int
    vision: ViTConfig | WindowViTConfig | SigLIPConfig | StemConfig | None = None
    whole_pictures: bool = False  # patches of a picture see each other both ways (Qwen2-VL: causally)


class VLM(nn.Module):
    """A decoder over segments, with eyes and words (core/seams.py, Backbone)."""

    def __init__(self, config: VLMConfig, words: Words | None = None):
        super().__init__()
        self.config = config
        self.words = words
        self.about: Tensor | None = None
        self.needs: frozenset[str] = frozenset()
        self.rule: Rule = (("image/*", "image/*", "full"), *CAUSAL) if config.whole_pictures else CAUSAL
        self.embedding = config.tower.table(config.vocabulary)
        nn.init.normal_(self.embedding.weight, std=0.02)
        self.head: nn.Linear | None = None  # of its own, by an edit
        self.towers = nn.ModuleDict({"vlm": Tower(config.tower)})
        v = config.vision
        self.vision: nn.Module | None = None if v is None else EYES[type(v)](v)

    @property
    def provides(self) -> frozenset[str]:
        """Text, pictures if it has eyes, its width, and towers that were added."""
        towers = {fits.tower(n, t.config.width) for n, t in self.towers.items() if n != "vlm"}
        return frozenset({"text", *(["image"] if self.vision else []), fits.trunk(self.width), *towers})

    @property
    def width(self) -> int:
        """D of the language tower."""
        return self.config.tower.width

    def see(self, images: Mapping[str, Tensor], about: Tensor | None = None) -> dict[str, Patches]:
        """{role: float (B,T,3,h,w) in [0, 1]} -> {role: patches of width D}. about (B,D): see `core.seams.Backbone`; it
        is `self.about` meanwhile."""
        if images and self.vision is None:
            raise BuildError("this backbone has no vision tower", "VLMConfig(vision=...)", "give it one")
        self.about = about
        try:
            return {role: self.vision(x) for role, x in images.items()}
        finally:
            self.about = None

    def embed(self, ids: Tensor) -> Tensor:
        """ids (B,n) -> (B,n,D)."""
        return self.embedding(ids)

    def forward(
        self,
        segments: Sequence[Segment],
        *,
        rule: Rule | None = None,
        past: Trunk | None = None,
        hide: Mapping[str, Tensor] = {},
        keep: Keep | None = None,
        want: Sequence[int] | None = None,
        extras: Sequence[Sequence[Entry]] = (),
    ) -> Trunk:
        """One pass (see `model.trunk.run`); without a rule, that of `past`, or its own."""
        rule = self.rule if rule is None and past is None else rule
        return run(self.towers, segments, rule=rule, past=past, hide=hide, keep=keep, want=want, extras=extras)

    def logits(self, hidden: Tensor, ids: Tensor | None = None) -> Tensor:
        """hidden (...,D) -> scores over the vocabulary (...,V), or over the given `ids` (m,) only: (...,m)."""
        table = (self.embedding if self.head is None else self.head).weight
        return nn.functional.linear(hidden, table if ids is None else table[ids])

    def add_tower(self, name: str, config: AnyTower) -> None:
        """A second set of weights riding in the same attention; refuses a shape that cannot."""
        own = self.config.tower
        if type(config) is not type(own):
            raise BuildError(
                f"tower '{name}' of {type(config).__name__}", f"{type(own).__name__}, the trunk's", "use one decoder's"
            )
        same = ("layers", "heads", "groups", "head_size")
        wrong = {f: (getattr(config, f), getattr(own, f)) for f in same if getattr(config, f) != getattr(own, f)}
        if wrong:
            raise BuildError(
                f"tower '{name}' differs in {wrong}", "the trunk's depth and heads", "only width may differ"
            )
        if name in self.towers:
            raise BuildError(f"two towers named '{name}'", "one occupant", "rename one")
        self.towers[name] = Tower(config)

    def add_words(self, names: Sequence[str]) -> list[int]:
        """New words at the end of the vocabulary, embedded as the mean of the old ones, and written as their mean by a
        head of its own; returns their ids. Rows of the embedding that no word had are used first."""
        if self.words is None:
            raise BuildError("this backbone has no tokenizer", "VLM(config, words)", "give it one before adding words")
        before = len(self.words)
        self.words.tokenizer.add_special_tokens(list(names))
        count = len(self.words)
        need = count - self.embedding.num_embeddings
        for table in (self.embedding, self.head):
            if table is not None:
                old = table.weight.data
                mean = old[:before].mean(0, keepdim=True)
                old[before:count] = mean
                if need > 0:
                    table.weight = nn.Parameter(torch.cat([old, mean.expand(need, -1)]))
        if need > 0:
            self.embedding.num_embeddings = count
            if self.head is not None:
                self.head.out_features = count
            self.config = replace(self.config, vocabulary=count)
        return [self.words.id(n) for n in names]

    def generate(self, trunk: Trunk, turns: Sequence[Turn], *, keys: Keys) -> tuple[Trunk, list[str]]:
        """Write the turns, greedily, on top of `trunk`; rows that have ended are padded and masked.

        Returns the extended trunk and what was said, a string a row: the texts of the turns, with a space between them.
        `keys` is unused by greedy decoding and there for backbones that sample. A given text is forced, token by token,
        in one pass.
        """
        if self.words is None:
            raise BuildError("this backbone has no tokenizer", "VLM(config, words)", "give it one to generate")
        texts: list[Sequence[str]] = []
        for turn in turns:
            if turn.given is not None:
                forced = taught(self.words, [turn])
                trunk = trunk.extend([self.text(turn.segment, forced.ids, forced.valid, trunk.end)])
                texts.append(turn.given)
            else:
                trunk, said = self._decode(trunk, turn)
                texts.append(said)
        return trunk, [" ".join(text for text in row if text) for row in zip(*texts)]

    def place(self, grid: tuple[int, int, int], valid: Tensor, start: Tensor | int = 0) -> tuple[Tensor, Tensor | int]:
        """Positions (B,n,3) of a picture's tokens, valid (B,n), from `start` on, and the next free one, as the decoder
        counts."""
        return self.config.tower.place(grid, valid, start)

    def text(
        self, name: str, ids: Tensor, valid: Tensor, start: Tensor | int = 0, task: Tensor | None = None
    ) -> Segment:
        """A segment of text (B,n) whose positions count up from `start` (B,) or int (a prefix's `end`)."""
        device = self.embedding.weight.device
        ids, valid = ids.to(device), valid.to(device)
        return Segment(name, self.embed(ids), valid, text_position(valid, start), task=task)

    def _decode(self, trunk: Trunk, turn: Turn) -> tuple[Trunk, list[str]]:
        words = self.words
        assert words is not None
        rows = trunk.end.shape[0]
        device = trunk.end.device
        stop = words.id(turn.stop)
        token = torch.tensor([words.cue(turn.cue)] * rows, dtype=torch.int64, device=device)
        alive = torch.ones(rows, 1, dtype=torch.bool, device=device)
        limit, said = turn.limit, [token[:, :0]]
        if isinstance(turn, Question):
            ask, limit = asked(words, turn), max(len(words.encode(way)) for way in turn.among)
            trunk = trunk.extend([self.text(turn.segment, ask.ids, ask.valid, trunk.end)])
            alive = ask.valid.any(1, keepdim=True).to(device)
        for written in range(limit + 2):  # the cue, up to `limit` tokens, the stop
            trunk = trunk.extend([self.text(turn.segment, token, alive.expand_as(token), trunk.end)])
            alive = alive & ((token != stop) if written else True)
            if not bool(alive.any()):
                break
            scores = self.logits(trunk.hidden[turn.segment][:, -1:])
            if isinstance(turn, Question):
                scores = narrowed(words, turn, scores, torch.cat(said, 1).tolist())
            best = scores.argmax(-1)
            token = torch.where(alive & (written < limit), best, torch.full_like(best, stop))
            said.append(token)
        texts = [words.decode(row[: [*row, stop].index(stop)]) for row in torch.cat(said, 1).tolist()]
        return trunk, texts
