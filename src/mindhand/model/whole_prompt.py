"""Edit: pictures and the prompt see each other both ways, as in PaliGemma (2407.07726); what follows is causal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from mindhand.core.seams import CAUSAL, Rule

SEEN = "image/*", "text"  # segments; not "text@1": of several questions a picture none may reach another through it
RULE: Rule = (*((query, key, "full") for query in SEEN for key in SEEN), *CAUSAL)


@dataclass(frozen=True)
class WholePrompt:
    """Give the backbone the rule. Where a picture is seen before its question (`VLA.look`), or with several, it cannot
    see the question: the question sees it, as by any other rule."""

    provides: ClassVar[frozenset[str]] = frozenset({"whole prompt"})

    def apply(self, vla: nn.Module) -> None:
        """`vla` is a VLM or holds one as `backbone`."""
        getattr(vla, "backbone", vla).rule = RULE
