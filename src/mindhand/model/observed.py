"""What a policy asks of an observation before it looks: the state and the pictures that its spec says, all of them."""

from __future__ import annotations

from collections.abc import Iterable

from mindhand.core.errors import SpecMismatch
from mindhand.core.nouns import Observation
from mindhand.core.spec import Spec


def check_observed(obs: Observation, spec: Spec, looks: Iterable[str]) -> None:
    """SpecMismatch for a state or a picture of another size, for a camera that the spec does not know, and where none
    is shown of a camera in `looks`: a policy would act without it and nobody would know."""
    if obs.state.shape[-1] != spec.state_size:
        raise SpecMismatch(f"a state of size {obs.state.shape[-1]}", f"{spec.state_size}", "check the spec")
    for role, x in obs.images.items():
        camera = spec.camera(role)
        if x.shape[2:4] != (camera.height, camera.width):
            raise SpecMismatch(
                f"picture '{role}' of {x.shape[2]}x{x.shape[3]} pixels",
                f"{camera.height}x{camera.width}",
                "prepare it as the spec's camera says",
            )
    if missing := sorted(set(looks) - set(obs.images)):
        raise SpecMismatch(
            f"an observation without a picture of {missing}; it shows {sorted(obs.images)}",
            f"one of every camera that the policy looks through: {sorted(set(looks))}",
            "give the picture; for a camera that is off, any pixels, with `present` False",
        )
