"""Edit: forget. The same architecture with weights drawn anew: what a policy is without what its VLM knew."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from mindhand.core.errors import BuildError


@dataclass(frozen=True)
class Fresh:
    """Draw all weights of the backbone by `seed`; its tokenizer stays."""

    seed: int = 0

    def apply(self, vla: nn.Module) -> None:
        """`vla` is a VLM or holds one as `backbone`. BuildError for one that was edited before: it would be another."""
        backbone = getattr(vla, "backbone", vla)
        with torch.random.fork_rng():
            torch.manual_seed(self.seed)
            new = type(backbone)(backbone.config, backbone.words)
        if odd := sorted(set(backbone.state_dict()) ^ set(new.state_dict())):
            raise BuildError(f"a backbone whose '{odd[0]}' is not of its config", "a plain one", "let Fresh come first")
        backbone.load_state_dict(new.state_dict())
