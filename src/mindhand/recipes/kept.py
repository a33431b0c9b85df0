"""Finished cells of a grid in the checkout: what is known of each, without its weights.

    results/cells/<proof>/<address>/<cell>.tar.xz     the cell's rows, scorecard, costs and done.json

A training takes half an hour of a core and its rows 100 KB, so that a grid may be run over many days, on machines that
come and go, and each of its cells once. What a cell was asked can be counted anew from its rows; asking it something
else needs its weights, and those its command.
"""

from __future__ import annotations

import io
import lzma
import tarfile
from collections.abc import Iterator
from pathlib import Path

from mindhand.core.errors import BadData
from mindhand.core.files import write_atomic
from mindhand.core.folder import replacing_folder

DONE = "done.json"  # of a cell that is finished
KEPT = ("*.json", "*.jsonl", "*/run.json", "*/rows.jsonl", "k-test/*/run.json", "k-test/*/rows.jsonl")
ENDING = ".tar.xz"
MOST = 64 << 20  # bytes of a cell, unpacked


def keep(cell: Path, archive: Path) -> bool:
    """Put what is known of a finished cell into an archive; whether that changed. The same files are the same bytes."""
    files = sorted({f for pattern in KEPT for f in cell.glob(pattern)})
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for file in files:
            told = file.read_bytes()
            about = tarfile.TarInfo(file.relative_to(cell).as_posix())
            about.size = len(told)
            tar.addfile(about, io.BytesIO(told))
    packed = lzma.compress(out.getvalue(), preset=9)
    if archive.exists() and archive.read_bytes() == packed:
        return False
    write_atomic(archive, packed)
    return True


def unpack(archive: Path, cell: Path) -> None:
    """The inverse, for a cell that is not there. BadData for what `keep` has not made."""
    wrong = BadData(f"{archive} is no finished cell", "what the queue wrote", "restore it: git checkout")
    try:
        with lzma.open(archive) as opened:
            told = opened.read(MOST + 1)
        if len(told) > MOST:
            raise wrong
        with replacing_folder(cell) as fresh, tarfile.open(fileobj=io.BytesIO(told)) as tar:
            if DONE not in tar.getnames():
                raise wrong
            tar.extractall(fresh, filter="data")
    except (lzma.LZMAError, tarfile.TarError, EOFError) as error:
        raise wrong from error


def archives(home: Path) -> Iterator[tuple[str, Path]]:
    """(path of the cell, its archive) of all below a folder, sorted."""
    for file in sorted(home.rglob(f"*{ENDING}")):
        yield file.relative_to(home).as_posix().removesuffix(ENDING), file
