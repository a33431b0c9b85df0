"""`mindhand doctor`: will it run here? Every line says what was found, and a bad one what to do about it.

The checks do not import what they judge where that could crash: rendering is tried in a subprocess a backend.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Mark = Literal["ok", "warn", "bad"]
APT = "apt-get install -y --no-install-recommends libosmesa6 libegl1 libgl1 libgl1-mesa-dri libglx-mesa0 libegl-mesa0"
BACKENDS = ("egl", "osmesa")
SMOKE = 1e-3  # in robot units: a millimetre; other CPUs round otherwise
DISK_GIB = 2.0  # what `mindhand demo` writes, with room

# A lit red ball on black: drawn right, some pixels are red and some are not.
RENDER = """
import time
import mujoco
model = mujoco.MjModel.from_xml_string(
    '<mujoco><visual><quality offsamples="0"/></visual><worldbody><light pos="0 -1 1"/>'
    '<geom type="sphere" size=".3" rgba="1 0 0 1"/><camera name="c" pos="0 -1 0" xyaxes="1 0 0 0 0 1"/>'
    '</worldbody></mujoco>'
)
data = mujoco.MjData(model)
mujoco.mj_forward(model, data)
renderer = mujoco.Renderer(model, 64, 64)
renderer.update_scene(data, "c")
picture = renderer.render()
begin = time.perf_counter()
for _ in range(10):
    picture = renderer.render()
ms = (time.perf_counter() - begin) * 100
renderer.close()
red = int((picture[..., 0] > 60).sum())
assert 200 < red < 3600, f"{red} red pixels of 4096"
print(f"FINE {ms:.2f}")
"""


@dataclass(frozen=True)
class Finding:
    """One line of the report: mark, what was looked at, what was found, and what to do if it is not ok."""

    mark: Mark
    what: str
    found: str
    do: str = ""


def numbers(version: str) -> tuple[int, ...]:
    """The release numbers of a version: "2.13.0+cpu" -> (2, 13, 0)."""
    return tuple(int(n) for n in re.match(r"\d+(\.\d+)*", version)[0].split("."))  # type: ignore[index]


def fits(version: str, window: str) -> bool:
    """Whether a version lies in a window such as ">=3.8.1,<3.10" (>=, >, <=, <, ==, !=; missing numbers are 0)."""
    for bound in filter(None, (b.strip() for b in window.split(","))):
        sign, wanted = re.fullmatch(r"(>=|<=|==|!=|>|<)\s*(\S+)", bound).groups()  # type: ignore[union-attr]
        have, want = numbers(version), numbers(wanted)
        size = max(len(have), len(want))
        a, b = (x + (0,) * (size - len(x)) for x in (have, want))
        if not {">=": a >= b, "<=": a <= b, "==": a == b, "!=": a != b, ">": a > b, "<": a < b}[sign]:
            return False
    return True


def requirements() -> Iterator[tuple[str, str, bool]]:
    """What the installed mindhand asks for: (distribution, window, whether only an extra needs it)."""
    for line in importlib.metadata.requires("mindhand") or []:
        wanted, _, marker = line.partition(";")
        name, window = re.fullmatch(r"([\w.-]+)(?:\[.*\])?\s*(.*)", wanted.strip()).groups()  # type: ignore[union-attr]
        yield name, window.strip("() "), "extra" in marker


def check_python() -> Iterator[Finding]:
    """Python, and where mindhand runs from."""
    import mindhand

    python = platform.python_version()
    mark: Mark = "ok" if fits(python, ">=3.11") else "bad"
    yield Finding(mark, "python", f"{python} on {platform.platform(terse=True)}", "use Python 3.11 or newer")
    yield Finding("ok", "mindhand", f"{mindhand.__version__} in {Path(mindhand.__file__).parent}")


def check_versions() -> Iterator[Finding]:
    """Every dependency is there and inside the window that was tried."""
    for name, window, extra in requirements():
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            if not extra:
                yield Finding("bad", name, "not installed", f"pip install '{name}{window}'")
            continue
        if not fits(version, window):
            mark: Mark = "warn" if extra else "bad"
            yield Finding(mark, name, f"{version}, wanted {window}", f"pip install '{name}{window}'")
        elif not extra:
            yield Finding("ok", name, version)


def check_torch() -> Iterator[Finding]:
    """What torch computes with, and whether a foreign torchvision lies beside it."""
    try:
        import torch
    except ImportError as error:
        yield Finding("bad", "torch build", str(error), "install PyTorch first, by its own install page")
        return
    threads, cores = (
        torch.get_num_threads(),
        len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count(),
    )
    if torch.cuda.is_available():
        free, total = (n / 2**30 for n in torch.cuda.mem_get_info())
        yield Finding("ok", "torch build", f"CUDA {torch.version.cuda}, {torch.cuda.get_device_name()}, "
                                           f"{free:.0f} of {total:.0f} GiB free")  # fmt: skip
    else:
        yield Finding("ok", "torch build", f"CPU, {threads} of {cores} cores")
    try:
        importlib.metadata.version("torchvision")
    except importlib.metadata.PackageNotFoundError:
        return
    done = subprocess.run([sys.executable, "-c", "import torchvision"], capture_output=True, text=True)
    if done.returncode:
        yield Finding(
            "warn",
            "torchvision",
            "is built for another torch; transformers sees it and then fails to import vision models",
            "pip uninstall torchvision (mindhand does not use it), or install the build that matches torch",
        )


def check_render() -> Iterator[Finding]:
    """Each backend draws a small picture in a process of its own."""
    chosen = os.environ.get("MUJOCO_GL", "")
    works = []
    for backend in BACKENDS if sys.platform == "linux" else ("",):
        env = {**os.environ, "MUJOCO_GL": backend} if backend else dict(os.environ)
        env.pop("PYOPENGL_PLATFORM", None)
        try:
            done = subprocess.run([sys.executable, "-c", RENDER], capture_output=True, text=True, env=env, timeout=120)
            out, error = done.stdout, done.stderr.strip().splitlines()
        except subprocess.TimeoutExpired:
            out, error = "", ["no picture after 120 s"]
        name = f"render {backend or 'default'}"
        if match := re.search(r"FINE ([\d.]+)", out):
            works.append(backend)
            yield Finding("ok", name, f"64 x 64 in {match[1]} ms")
        else:
            yield Finding("warn", name, error[-1][:160] if error else "no picture")
    if not works:
        yield Finding("bad", "rendering", "no backend works", f"as root: {APT}")
    elif chosen and sys.platform == "linux" and chosen not in works:
        yield Finding("bad", "MUJOCO_GL", f"is '{chosen}', which does not work here", f"export MUJOCO_GL={works[0]}")
    elif not chosen and sys.platform == "linux":
        yield Finding("ok", "MUJOCO_GL", f"not set; {works[0]} works here")


def check_video() -> Iterator[Finding]:
    """Reports and datasets write h264."""
    try:
        import av

        av.codec.Codec("libx264", "w")
        yield Finding("ok", "video", "h264 can be written")
    except Exception as error:
        yield Finding(
            "warn", "video", f"no h264: {error}", "reports fall back to animated WebP; pip install --upgrade av"
        )


def check_fonts() -> Iterator[Finding]:
    """The fonts the desk writes with are in the package and can be opened."""
    from importlib.resources import files

    from PIL import ImageFont

    from mindhand.worlds.scene import FONTS

    folder = files("mindhand.worlds") / "desk" / "fonts"
    bad = []
    for font in FONTS:
        try:
            with (folder / font.file).open("rb") as file:
                ImageFont.truetype(file, 12).getbbox("0123456789+" + font.minus)
        except OSError as error:
            bad.append(f"{font.file} ({error})")
    if bad:
        yield Finding("bad", "fonts", ", ".join(bad), "reinstall mindhand: the package is incomplete")
    else:
        yield Finding("ok", "fonts", f"{len(FONTS)} packaged")


def check_machine() -> Iterator[Finding]:
    """Cores and what they compute in, memory, disk."""
    import torch

    from mindhand.core.precision import half
    from mindhand.core.provenance import hardware

    found = hardware()
    kind = "bfloat16" if half(torch.device("cpu")) else "float32, at half the speed of CPUs that know bfloat16"
    yield Finding("ok", "processor", f"{found['cores']} cores, {found['cpu']}; trains in {kind}")
    free = shutil.disk_usage(Path.cwd()).free / 2**30
    mark: Mark = "ok" if free >= DISK_GIB else "warn"
    yield Finding(mark, "disk", f"{free:.0f} GiB free here", f"runs need {DISK_GIB:.0f} GiB: free some or use --run")
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    except (AttributeError, ValueError, OSError):
        return
    yield Finding("ok" if memory >= 4 else "warn", "memory", f"{memory:.0f} GiB", "4 GiB are needed for training nano")


CHECKS: tuple[Callable[[], Iterator[Finding]], ...] = (
    check_python, check_versions, check_torch, check_render, check_video, check_fonts, check_machine,
)  # fmt: skip


def check_checkpoint(folder: Path) -> Iterator[Finding]:
    """A checkpoint folder: hashes of every file, strict loading, and its stored prediction made again.
    Raises BadCheckpoint for a folder that is damaged."""
    from mindhand.core.checkpoint import load_checkpoint, smoke_differences
    from mindhand.core.nouns import smoke_observation
    from mindhand.model.store import load_vla, smoke_arrays
    from mindhand.worlds.scene import read_reasoning

    found = load_checkpoint(folder, None)
    size = sum(p.stat().st_size for p in found.folder.rglob("*") if p.is_file()) / 2**20
    yield Finding("ok", "files", f"{folder}: whole, {size:.1f} MiB, {found.fingerprint}")
    yield Finding("ok", "robot", f"'{found.spec.robot}', spec {found.spec.fingerprint()}")
    vla = load_vla(folder, parse=read_reasoning)
    yield Finding("ok", "weights", f"{sum(p.numel() for p in vla.parameters()) / 1e6:.2f} million parameters, all used")
    if "expert" not in found.config["slots"]:
        yield Finding("ok", "prediction", "none: a VLM without a hand")
    elif not found.smoke:
        yield Finding("warn", "prediction", "none was stored", "save it with smoke=smoke_observation(spec)")
    else:
        now = smoke_arrays(vla, smoke_observation(found.spec))
        worse = smoke_differences(found.smoke, now, SMOKE)
        do = "compare versions with those it was made with: it acts differently here"
        yield Finding("bad" if worse else "ok", "prediction", "; ".join(worse) or "the same as when it was saved", do)


def show(findings: Iterator[Finding]) -> int:
    """Print each finding as it comes; returns how many are bad."""
    from rich.console import Console
    from rich.markup import escape

    console, bad = Console(highlight=False, soft_wrap=True), 0
    colour = {"ok": "green", "warn": "yellow", "bad": "red"}
    for f in findings:
        bad += f.mark == "bad"
        console.print(f"[{colour[f.mark]}]{f.mark:>4}[/]  {f.what:<13} {escape(f.found)}")
        if f.mark != "ok" and f.do:
            console.print(f"      {'':<13} -> {escape(f.do)}")
    return bad


def doctor(checkpoint: Path | None = None) -> int:
    """Look over this machine, or one checkpoint; prints a report and returns 1 where something must be repaired."""
    bad = show(check_checkpoint(checkpoint)) if checkpoint else sum(show(check()) for check in CHECKS)
    print("all is well" if not bad else f"{bad} to repair")
    return int(bad > 0)


def dataset(path: Path) -> int:
    """The verb `mindhand data doctor`: prints what is wrong with a dataset and draws a contact sheet of what a
    model would see beside it; returns 1 where training would refuse it or learn it wrongly."""
    from mindhand.data.doctor import doctor as look

    report = look(path, sheet=path.with_name(f"{path.name}-sheet.png"))
    report.print()
    return report.exit_code
