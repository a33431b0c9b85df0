"""LeRobot in an environment of its own, for proofs against it: never a dependency of mindhand.

    python -m mindhand.recipes.lerobot_env runs/lerobot

makes a venv there (about 1.5 GB, most of it PyTorch) by pip as it is configured, or finds the one that is there.
LeRobot 0.4.4 pins an older PyTorch, so it is installed without its own list, beside versions with which the parts
called here run. What decodes video (torchcodec) finds the FFmpeg that PyAV's wheel brings; the system's is not needed.
`lerobot_side.py` is what runs there; files in a folder (npz, safetensors, json) go back and forth.
"""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from argparse import ArgumentParser
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mindhand.core.errors import Refusal
from mindhand.core.files import locked
from mindhand.core.record import Record
from mindhand.data.files import read_json, write_json

# With their own dependencies, and without: of these, what they pin does not fit the others or is never imported.
WHOLE = (
    "torch==2.13.0", "numpy==2.2.6", "datasets==4.8.5", "huggingface-hub==0.35.3", "av==15.1.0", "draccus==0.10.0",
    "einops==0.8.2", "deepdiff==8.6.1", "safetensors==0.8.0", "jsonlines==4.0.0", "imageio==2.38.1", "pillow==13.0.0",
    "psutil",
)  # fmt: skip
ALONE = (
    "lerobot==0.4.4", "torchvision==0.28.0", "torchcodec==0.12.0", "accelerate==1.15.0", "diffusers==0.35.2",
    "importlib_metadata", "zipp", "regex", "pyserial==3.5",
)  # fmt: skip
SIDE = Path(__file__).with_name("lerobot_side.py")
DONE = "made.json"  # what the environment was made of, written last
FFMPEG = ("libavcodec", "libavdevice", "libavfilter", "libavformat", "libavutil", "libswresample", "libswscale")


@dataclass(frozen=True)
class Side:
    """An environment with LeRobot. folder: where it lies; versions: of what ran in it, by name."""

    folder: Path
    versions: dict[str, str]

    def run(self, what: str, folder: Path) -> None:
        """One of `lerobot_side.py`'s commands on the files in a folder. Refusal with the end of what it said where it
        fails."""
        libraries = [self.folder / "ffmpeg", *(self.folder / "env/lib").glob("python*/site-packages/av.libs")]
        env = {**os.environ, "LD_LIBRARY_PATH": ":".join(str(p.resolve()) for p in libraries)}
        env |= {"HF_HUB_OFFLINE": "1", "HF_HOME": str((self.folder / "hf").resolve())}
        command = [str(_python(self.folder)), "-I", str(SIDE), what, str(folder.resolve())]  # -I: nothing of ours
        done = subprocess.run(command, env=env, capture_output=True, text=True)
        if done.returncode:
            said = "\n    ".join((done.stdout + done.stderr).strip().splitlines()[-12:])
            raise Refusal(f"LeRobot's side failed at '{what}':\n    {said}", "it to end well", f"remove {self.folder}")


def _python(folder: Path) -> Path:
    return folder / "env" / "bin" / "python"


def _pip(folder: Path, *words: str) -> None:
    command = [str(_python(folder)), "-m", "pip", "install", "--disable-pip-version-check", "-q", *words]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or [done.stderr.strip()[-200:]]
        raise Refusal(
            f"pip could not install LeRobot's environment: {errors[-1]}",
            "a network, or an index that has these versions",
            f"try `{' '.join(command)}` by hand, then run this again: what is installed is kept",
        )


def _link_ffmpeg(folder: Path) -> None:
    """PyAV's FFmpeg under the names that torchcodec asks for ("libavcodec.so.61")."""
    links = folder / "ffmpeg"
    links.mkdir(exist_ok=True)
    for name in FFMPEG:
        for file in (folder / "env/lib").glob(f"python*/site-packages/av.libs/{name}-*.so.*"):
            link = links / f"{name}.so.{file.name.partition('.so.')[2].partition('.')[0]}"
            link.unlink(missing_ok=True)
            link.symlink_to(file.resolve())


def lerobot_side(folder: Path) -> Side:
    """The environment in `folder`, made if it is not there whole. Refusal where pip cannot install it."""
    folder.mkdir(parents=True, exist_ok=True)
    made, wanted = folder / DONE, {"with dependencies": [*WHOLE], "alone": [*ALONE]}
    with locked(folder):
        old = read_json(made, "LeRobot's environment") if made.exists() else {}
        if old.get("of") == wanted and _python(folder).exists():
            return Side(folder, old["versions"])
        made.unlink(missing_ok=True)
        if not _python(folder).exists():
            venv.create(folder / "env", with_pip=True)
        _pip(folder, *WHOLE)
        _pip(folder, "--no-deps", *ALONE)
        _link_ffmpeg(folder)
        Side(folder, {}).run("versions", folder)
        versions = read_json(folder / "versions.json", "LeRobot's versions")
        write_json(made, {"of": wanted, "versions": versions})
    return Side(folder, versions)


def proof(publish: Callable[..., Record], argv: Sequence[str]) -> int:
    """The command of a proof, which publishes with LeRobot's folder and, where it is given, one for drafts; its exit
    code, 2 for a refusal."""
    try:
        if len(argv) not in (1, 2):
            raise Refusal(f"{len(argv)} words", "LeRobot's folder, and one for drafts", "for example runs/lerobot")
        record = publish(*map(Path, argv))
    except Refusal as refusal:
        print(f"mindhand: {refusal}", file=sys.stderr)
        return 2
    print(f"{record.name}: {record.show()}")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code, 2 for a refusal."""
    line = ArgumentParser(prog="python -m mindhand.recipes.lerobot_env", description="An environment with LeRobot.")
    line.add_argument("folder", type=Path, help="where it is to lie, for example runs/lerobot")
    try:
        side = lerobot_side(line.parse_args(argv).folder)
    except Refusal as refusal:
        print(f"mindhand: {refusal}", file=sys.stderr)
        return 2
    print(f"LeRobot in {side.folder}: " + " ".join(f"{n} {v}" for n, v in side.versions.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
