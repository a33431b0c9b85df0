"""Models of others, by the model_type in their config.json: the one list of what can be imported.

found = import_folder("a local folder of transformers")
vlm = found.vlm()                           # with its weights, and its tokenizer or a given one
vla = VLA(backbone=vlm, edits=found.edits, ...)
vla = found.vla(spec)                       # of a policy (pi0): with its hand, and edits
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from mindhand.core.checkpoint import load_into
from mindhand.core.errors import BadCheckpoint, BuildError
from mindhand.core.parts import apply_edits
from mindhand.core.seams import Edit
from mindhand.core.spec import Spec

from .import_gemma import from_gemma, from_paligemma, gemma, paligemma
from .import_pi0 import HAND, from_pi0, pi0, pi0_edits, pi0_hand
from .import_qwen import from_qwen, qwen2, qwen2_5_vl, qwen2_vl
from .padded_codec import PaddedCodec, PaddedConfig
from .pi0_hand import Pi0Config, Pi0Hand
from .tokenizer_folder import read_words
from .transformers_folder import Fields, read_json, read_tensors
from .untied import Untied
from .vla import VLA
from .vlm import VLM, VLMConfig
from .whole_prompt import WholePrompt
from .words import Words


@dataclass(frozen=True)
class Family:
    """Models of one model_type: the VLM's config as ours, their tensors as ours, the edits that make a VLM theirs, and
    of a policy the hand."""

    config: Callable[[Fields], VLMConfig]
    tensors: Callable[[Mapping[str, Tensor]], dict[str, Tensor]]
    edits: Callable[[Fields], tuple[Edit, ...]] = lambda _: ()
    hand: Callable[[Fields], Pi0Config | None] = lambda _: None


FAMILIES: dict[str, Family] = {
    "qwen2": Family(qwen2, from_qwen),
    "qwen2_vl": Family(qwen2_vl, from_qwen),
    "qwen2_5_vl": Family(qwen2_5_vl, from_qwen),
    "gemma": Family(gemma, from_gemma),
    "paligemma": Family(paligemma, from_paligemma, lambda _: (WholePrompt(),)),
    "pi0": Family(pi0, from_pi0, pi0_edits, pi0_hand),
}


@dataclass(frozen=True)
class Imported:
    """What a folder holds: a VLM's config, the edits that it needs, its tensors by our names; of a policy the hand's
    config, whose tensors begin with `HAND`; and where it lies, for its tokenizer, which is read when it is wanted."""

    config: VLMConfig
    edits: tuple[Edit, ...]
    tensors: Mapping[str, Tensor]
    hand: Pi0Config | None = None
    folder: Path | None = None

    def _of(self, hand: bool) -> dict[str, Tensor]:
        return {n.removeprefix(HAND): x for n, x in self.tensors.items() if n.startswith(HAND) == hand}

    def words(self) -> Words | None:
        """The folder's own tokenizer (see `tokenizer_folder.read_words`); None where it holds none."""
        return None if self.folder is None else read_words(self.folder, self.config.vocabulary)

    def vlm(self, words: Words | None = None) -> VLM:
        """The VLM with its edits and weights, in float32; of a policy with the hand's tower. words: a tokenizer other
        than its own; with neither, it hears and says nothing. A policy made of it lists
        the edits again, for whoever loads its checkpoint. BadCheckpoint, naming every tensor, where names or shapes
        are not the config's."""
        made = VLM(self.config, words or self.words())
        apply_edits(made, self.edits)
        load_into(made, self._of(False))
        return made.eval()

    def vla(self, spec: Spec, words: Words | None = None, **parts: Any) -> VLA:
        """The policy for a robot, in float32, with a codec that is still to be fitted to its data. parts: of `VLA`,
        besides backbone, expert and edits. words: as of `vlm`. BuildError where the folder holds no hand, one with
        too few numbers, or no tokenizer and none is given."""
        if self.hand is None:
            raise BuildError("a VLM without a hand", "a policy, as pi0 is", "take vlm(), and give it a hand")
        if (words := words or self.words()) is None:
            raise BuildError(
                "a policy without a tokenizer", "tokenizer.json in its folder", "give one: vla(spec, words)"
            )
        hand = Pi0Hand(replace(self.hand, state=spec.state_size))
        codec = parts.pop("codec", None) or PaddedCodec(spec, PaddedConfig(self.hand.action))
        made = VLA(
            spec=spec, backbone=VLM(self.config, words), expert=hand, codec=codec, edits=self.edits, **parts
        )  # fmt: skip
        load_into(made.backbone, self._of(False))
        load_into(hand, self._of(True))
        return made.eval()


def family_of(config: Mapping[str, Any], folder: Path) -> tuple[Family, Fields]:
    """The family of a folder's config.json, and its fields; BadCheckpoint for a model_type that is not known."""
    kind = config.get("model_type")
    if kind not in FAMILIES:
        raise BadCheckpoint(
            f"{folder}: model_type {kind!r}", f"one of {sorted(FAMILIES)}", "take a model of a kind that is known"
        )
    return FAMILIES[kind], Fields(config, str(folder / "config.json"))


def import_folder(folder: Path | str) -> Imported:
    """Read a local folder of transformers. BadCheckpoint for a model_type that is not known, which lists those that
    are, and for whatever is missing, damaged or not understood."""
    folder = Path(folder)
    family, fields = family_of(read_json(folder / "config.json"), folder)
    tensors = family.tensors(read_tensors(folder))
    own = "head.weight" in tensors
    if own:
        text = fields.part("text_config") if "text_config" in fields else fields
        for f in (fields, text):
            f.only("tie_word_embeddings", False)  # a head that is ignored, or one that is not: they write otherwise
    edits = (*family.edits(fields), *([Untied()] if own else []))
    return Imported(family.config(fields), edits, tensors, family.hand(fields), folder)
