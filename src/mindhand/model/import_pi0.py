"""transformers' PI0 (pi0, 2410.24164): weights as those of a VLM with a tower and of its hand, and configs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor

from mindhand.core.errors import BadCheckpoint
from mindhand.core.seams import Edit

from .import_gemma import FUSED, GEMMA, PALIGEMMA, gemma_tower, paligemma
from .import_names import Names, renamed
from .pi0_hand import Pi0Config
from .tower_hand import TOWER, AddTower
from .transformers_folder import Fields
from .vlm import VLMConfig
from .whole_prompt import WholePrompt

HAND = "hand."  # what the names of the hand's tensors begin with
UNUSED = "unused"  # the hand's tower reads no words, but theirs has a table for them
_WITH = "paligemma_with_expert."
_MIND = [  # as it is in transformers, and as it is stored (LeRobot's names)
    f"{at}{inner}"
    for at in ("vlm.", f"{_WITH}paligemma.", f"{_WITH}paligemma.model.")
    for inner in ("", "language_model.", "language_model.model.")
]
_TOWER = "dit.", f"{_WITH}gemma_expert.model."
_ENDS = {
    "action_in_proj": "enter", "state_proj": "senses.state.0",
    "action_time_mlp_in": "time.0", "action_time_mlp_out": "time.2",
}  # fmt: skip
_, LAYER = GEMMA.layers["layers"]
PI0 = Names(
    of="pi0",
    drop=("model.",),
    once={
        **{f"{at}{theirs}": ours for at in _MIND for theirs, ours in PALIGEMMA.once.items()},
        **{f"{at}norm": f"towers.{TOWER}.norm" for at in _TOWER},
        **{f"{at}{n}": f"{HAND}{ours}" for at in ("", "embed_action_time.") for n, ours in _ENDS.items()},
        "action_out_proj": f"{HAND}leave", "dit.embed_tokens": UNUSED, f"{_WITH}gemma_expert.lm_head": UNUSED,
    },
    layers={
        **{f"{at}{theirs}": ours for at in _MIND for theirs, ours in PALIGEMMA.layers.items()},
        **{f"{at}layers": (f"towers.{TOWER}.layers", LAYER) for at in _TOWER},
    },
    fused=FUSED,
    flat="vision.patch",
)  # fmt: skip


def from_pi0(theirs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename and fuse; names of the hand's ends begin with `HAND`. Accepts names as transformers has them and as they
    are stored. Where the table of words is stored as the head alone, it is that. BadCheckpoint for an unknown name."""
    ours = renamed(theirs, PI0)
    ours.pop(f"{UNUSED}.weight", None)
    if "head.weight" in ours and "embedding.weight" not in ours:
        ours["embedding.weight"] = ours.pop("head.weight")
    return ours


def pi0(f: Fields) -> VLMConfig:
    """Its mind, from the config.json of a pi0."""
    return paligemma(f.part("vlm_config"))


def pi0_edits(f: Fields) -> tuple[Edit, ...]:
    """The hand's tower, and the whole prompt. BadCheckpoint for a tower that cannot share the mind's attention."""
    own, mind = gemma_tower(f.part("dit_config")), pi0(f).tower
    if own != replace(mind, width=own.width, ffn=own.ffn):
        raise BadCheckpoint(f"dit_config {own}", f"as {mind}, but for width and ffn", "check the config.json")
    return WholePrompt(), AddTower(TOWER, own.width, own.ffn)


def pi0_hand(f: Fields) -> Pi0Config:
    """Its hand, for a robot that uses all of the state."""
    law = {"time_sampling_beta_alpha": 1.5, "time_sampling_beta_beta": 1.0}
    for name, value in {**law, "time_sampling_scale": 0.999, "time_sampling_offset": 0.001}.items():
        f.only(name, value)
    f.only("num_inference_steps", 10)
    states, width = f.count("max_state_dim", 32), f.part("dit_config").count("hidden_size")
    periods = f.number("min_period", 4e-3), f.number("max_period", 4.0)
    return Pi0Config(states, f.count("max_action_dim", 32), f.count("chunk_size", 50), width, states, *periods)
