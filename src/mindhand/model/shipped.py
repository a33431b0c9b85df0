"""The weights that come with the package: nano, a small VLM, and nano-desk, a policy that was made of it (the cards:
`weights/<name>/README.md`)."""

from __future__ import annotations

from pathlib import Path

from mindhand.core.errors import Refusal

WEIGHTS = Path(__file__).parent / "weights"
NANO, POLICY = "nano", "nano-desk"
MAKE = {
    NANO: "mindhand pretrain nano --run runs/nano, then give runs/nano/checkpoint",
    POLICY: "mindhand data record desk, then mindhand train nano-desk; or mindhand demo --from-scratch",
}
MOST = 16 * 2**20  # bytes of all that is shipped, so that the package stays one that is downloaded without a thought


def shipped_bytes(folder: Path = WEIGHTS) -> int:
    """The bytes of all files under a folder of weights, cards and plans included; 0 where there is none."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def is_shipped(name: str) -> bool:
    """Whether this copy of the package has such weights."""
    return (WEIGHTS / name / "checkpoint" / "manifest.json").is_file()


def shipped(name: str = NANO) -> Path:
    """The checkpoint folder of a model that is shipped. Refusal where this copy of the package has none."""
    folder = WEIGHTS / name / "checkpoint"
    if not is_shipped(name):
        raise Refusal(
            f"no weights of '{name}' in this copy of mindhand ({folder})",
            "a checkpoint of your own, or a release that ships them",
            f"to make one: {MAKE.get(name, 'train it')}",
        )
    return folder
