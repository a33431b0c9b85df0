"""Build the wheel and run it from an empty folder: `python tests/house/wheel.py`.

The wheel goes into a fresh environment that sees this environment's other packages but not the checkout, so what
the wheel lacks is missed. That the declared dependencies suffice is test_code.py's business.
"""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = (["--help"], ["doctor"], ["demo", "--quick"])


def run(*command: object, cwd: Path, env: dict[str, str] | None = None) -> str:
    """Run to the end; its output, or an exit with both streams."""
    done = subprocess.run([str(c) for c in command], cwd=cwd, env=env, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))} failed with {done.returncode}:\n{done.stdout}\n{done.stderr}")
    return done.stdout


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
        # A path in a .pth file is added as it is: the editable install's own .pth files there are not read.
        (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
        (folder / "empty").mkdir()
        env = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
        where = run(python, "-c", "import mindhand; print(mindhand.__file__)", cwd=folder / "empty", env=env).strip()
        if not Path(where).resolve().is_relative_to(site.resolve()):
            sys.exit(f"the wheel was not used: mindhand came from {where}")
        for command in COMMANDS:
            said = run(python.parent / "mindhand", *command, cwd=folder / "empty", env=env)
            print(f"mindhand {' '.join(command)}: {len(said.splitlines())} lines")


if __name__ == "__main__":
    main()
