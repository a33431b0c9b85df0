"""The licence of weights, as the folder that they lie in states it. Nothing is guessed from a model's name: a folder
that says nothing is said to say nothing, since who ships a policy made of it has to know."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path

from mindhand.core.errors import BadCheckpoint

FILE = "licence.json"  # of a checkpoint of ours: that of the backbone it was made of
FILES = ("LICENSE", "LICENSE.txt", "LICENSE.md", "LICENCE", "COPYING")
KNOWN = {  # how the texts of licences begin, in small letters and single spaces
    "apache license version 2.0": "apache-2.0", "mit license": "mit", "bsd 3-clause license": "bsd-3-clause",
    "gemma terms of use": "gemma", "qwen research license": "qwen-research",
}  # fmt: skip
FRONT = re.compile(r"\A---\n(.*?)\n---", re.DOTALL)  # of a model card, in YAML


@dataclass(frozen=True)
class Licence:
    """name: as stated, "" where nothing is; source: the file that states it, or where was looked; of: whose weights."""

    name: str
    source: str
    of: str

    def __str__(self) -> str:
        """One line, for a terminal, a card, a handshake, without a full stop."""
        said = f"{self.name} (stated in {self.source})" if self.name else f"not stated in {self.source}"
        return f"Licence of the backbone {self.of}: {said}"

    def to_bytes(self) -> bytes:
        """What goes with a checkpoint, as `FILE`."""
        return json.dumps(asdict(self), indent=1).encode()


def licence_of(folder: Path | str) -> Licence:
    """Of the weights in a folder: what a checkpoint of ours carries of the backbone that it was made of; else the
    front matter of README.md, else a LICENSE whose beginning is known; beside the weights, or one folder up, as our own
    are shipped. BadCheckpoint for a `FILE` that cannot be read."""
    folder = Path(folder)
    if (folder / FILE).exists():
        try:
            return Licence(**json.loads((folder / FILE).read_text()))
        except (OSError, ValueError, TypeError) as error:
            raise BadCheckpoint(f"{folder / FILE}: {error}", "what tune wrote", "copy the checkpoint again") from error
    ours = (folder / "manifest.json").exists()
    name = folder.parent.name if ours else folder.name
    for place in (folder, folder.parent) if ours else (folder,):
        if (place / "README.md").exists() and (said := stated((place / "README.md").read_text(errors="replace"))):
            return Licence(said, "README.md", name)
        for file in FILES:
            if (place / file).exists():
                return Licence(_begins(place / file) or f"own terms, see {file}", file, name)
    return Licence("", f"{folder.name}: neither README.md nor {FILES[0]} says it", name)


def stated(card: str) -> str:
    """The licence that a model card's front matter names; "" for a card without."""
    found = FRONT.match(card.replace("\r\n", "\n"))
    fields = dict(re.findall(r"^(license\w*): *(\S.*?)\s*$", found[1], re.MULTILINE)) if found else {}
    said = fields.get("license", "").strip("\"'")
    return fields.get("license_name", said).strip("\"'") if said in ("", "other") else said


def _begins(file: Path) -> str:
    text = " ".join(file.read_text(errors="replace")[:2000].lower().replace(",", " ").split())
    return next((name for start, name in KNOWN.items() if start in text[:300]), "")
