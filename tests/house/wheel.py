"""Build the wheel and run it from an empty folder: `python tests/house/wheel.py`.

The wheel goes into a fresh environment that sees, of this environment's packages, what `[project.dependencies]` asks
for and what those ask for, and neither the checkout nor an extra: what the wheel lacks is missed, and so is an extra
that something on the demo's way imports where nobody looks.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import venv
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = (["--help"], ["doctor"], ["demo", "--from-scratch", "--quick"], ["demo", "--quick"])
BOARD = """
from PIL import Image
from mindhand.data.synthetic.gates import gate_items
from mindhand.data.synthetic.toy_picture import tabletop
item = next(gate_items("equation_reading", 1, tabletop))
Image.fromarray(item.image).save("board.png")
print(item.answer)
"""  # a picture that the weights of the wheel are asked about, and what they should say
EXTRAS = ("transformers", "ray", "gymnasium", "metaworld", "pytest")  # must not be there


def run(*command: object, cwd: Path, env: dict[str, str] | None = None) -> str:
    """Run to the end; its output, or an exit with both streams."""
    done = subprocess.run([str(c) for c in command], cwd=cwd, env=env, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))} failed with {done.returncode}:\n{done.stdout}\n{done.stderr}")
    return done.stdout


def needed(package: str) -> set[str]:
    """Names of the installed packages that a plain install of `package` brings."""
    out: set[str] = set()
    asked, due = set(), [(package, "")]
    while due:
        name, extra = due.pop()
        if (name, extra) in asked:
            continue
        asked.add((name, extra))
        for line in metadata.requires(name) or ():
            need = Requirement(line)
            if need.marker is None or need.marker.evaluate({"extra": extra}):
                name_of = canonicalize_name(need.name)
                out.add(name_of)
                due += [(name_of, each) for each in ("", *need.extras)]
    return out


def lend(names: set[str], folder: Path) -> None:
    """Links in `folder` to all that these packages have in this environment's site-packages."""
    folder.mkdir()
    for name in sorted(names):
        found = metadata.distribution(name)
        for top in {file.parts[0] for file in found.files or ()} - {"..", "__pycache__"}:
            if not (folder / top).exists():
                (folder / top).symlink_to(Path(str(found.locate_file(top))).resolve())


def main() -> None:
    """Build, install, run."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
        run(*pip, "wheel", "--no-deps", "--wheel-dir", folder / "dist", ROOT, cwd=ROOT)
        (wheel,) = (folder / "dist").glob("mindhand-*.whl")
        print(f"{wheel.name}: {wheel.stat().st_size / 2**20:.2f} MiB")
        venv.create(folder / "env", with_pip=False)
        python = folder / "env" / "bin" / "python"
        run(*pip, "--python", python, "install", "--no-deps", wheel, cwd=folder)
        site = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder).strip())
        lend(needed("mindhand"), folder / "lent")
        (site / "dependencies.pth").write_text(f"{folder / 'lent'}\n")
        (folder / "empty").mkdir()
        env = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
        where = run(python, "-c", "import mindhand; print(mindhand.__file__)", cwd=folder / "empty", env=env).strip()
        if not Path(where).resolve().is_relative_to(site.resolve()):
            sys.exit(f"the wheel was not used: mindhand came from {where}")
        code = f"import importlib.util as i; print([n for n in {EXTRAS} if i.find_spec(n)])"
        if (extras := run(python, "-c", code, cwd=folder / "empty", env=env).strip()) != "[]":
            sys.exit(f"the environment has {extras}, which a plain install does not bring")
        said = ""
        for command in COMMANDS:
            said = run(python.parent / "mindhand", *command, cwd=folder / "empty", env=env)
            print(f"mindhand {' '.join(command)}: {len(said.splitlines())} lines")
        wanted = run(python, "-c", BOARD, cwd=folder / "empty", env=env).strip()
        read = run(
            python.parent / "mindhand", "chat", "board.png", "--ask", "read the board", cwd=folder / "empty", env=env
        )
        if read.strip() != wanted:
            sys.exit(f"the weights that came with the wheel read {read!r} where the board says {wanted!r}")
        print(f"mindhand chat: {wanted}")
        told = re.search(r"The report: (/.*\.html)$", said, re.MULTILINE)
        if told is None or not Path(told[1]).is_file() or not Path(told[1]).is_relative_to(folder.resolve() / "empty"):
            sys.exit(f"the demo names no report of its own that is there:\n{said}")


if __name__ == "__main__":
    main()
