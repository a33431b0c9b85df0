"""The K-test ledger: who looked at the open world's test split, with which checkpoint, and how often before.

K-test is looked at once a release; everything is tuned on K-dev. What is looked at more often becomes a second K-dev,
and no number can tell. So every look is a line of a file, written before its first episode runs: an evaluation
that was thrown away has been looked at too. Going on with a run folder is the same look and no second line.

    results/ktest.jsonl      in a source checkout: committed with the release whose numbers it belongs to
    <run>/../ktest.jsonl     elsewhere: beside the run folders, so that all of a project's runs share one
    <run>/ktest.json         the line of a run folder, by which it is known again

Each line carries its own hash and that of the line before, so a line that was changed, removed, added or moved is
refused. The end of a chain is held from outside: a run folder knows its line, and a ledger in a git checkout must
begin with the lines of the last commit. There is no secret in it: who rewrites the whole file, the run folders and
the commits is not found out. Two branches that both opened it cannot be merged: open it on one.
"""

from __future__ import annotations

import getpass
import hashlib
import json
import os
import secrets
import subprocess
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mindhand.core import provenance
from mindhand.core.errors import BadData, Refusal
from mindhand.core.files import locked, write_atomic

from .journal import line
from .protocol import Protocol

SPLIT = "K-test"
START = "start"  # stands for the hash of the line before the first
RECEIPT = "ktest.json"


@dataclass(frozen=True)
class Look:
    """One opening of K-test, one line of the ledger.

    time: UTC, ISO 8601, to the second. who: git's user.name, else the login. checkpoint: its fingerprint. protocol,
    fingerprint: the protocol's id and fingerprint. tasks: those of K-test. episodes: of each. commit: of mindhand,
    "unknown" outside a checkout. before: how often this ledger had been opened, before_checkpoint: of these, for
    this checkpoint. run: a random name of the run folder. after: hash of the line before. hash: SHA-256 of the rest.
    """

    time: str
    who: str
    checkpoint: str
    protocol: str
    fingerprint: str
    tasks: tuple[str, ...]
    episodes: int
    commit: str
    before: int
    before_checkpoint: int
    run: str
    after: str
    hash: str

    @property
    def text(self) -> str:
        """For reports: "K-test was opened 3 times before, 1 of them for this checkpoint"."""
        if not self.before:
            return "K-test had not been opened before"
        if self.before == 1:
            return f"K-test was opened once before, {'' if self.before_checkpoint else 'not '}for this checkpoint"
        some = self.before_checkpoint or "none"
        return f"K-test was opened {self.before} times before, {some} of them for this checkpoint"


def ktest_tasks(protocol: Protocol) -> tuple[str, ...]:
    """The tasks of a protocol that are of the K-test split."""
    return tuple(t for t in protocol.tasks if SPLIT in t.split("/"))


def default_ledger(run: Path | str) -> Path:
    """results/ktest.jsonl of the source checkout that mindhand runs from, which is where it is tuned and released;
    else ktest.jsonl beside the run folder: inside it, every new folder would begin to count at nought."""
    root = provenance.checkout(__file__)
    return root / "results" / "ktest.jsonl" if root else Path(run).resolve().parent / "ktest.jsonl"


def looks(ledger: Path | str) -> tuple[Look, ...]:
    """All openings, oldest first; () where there is no ledger. Refuses one that is damaged, edited, or shorter than
    the one of the last commit."""
    ledger = Path(ledger)
    if not ledger.parent.exists():
        return _read(ledger)  # nothing to lock; the last commit may still know better
    with locked(ledger.parent):
        return _read(ledger)


def opening_of(run: Path | str) -> Look | None:
    """The opening a run folder belongs to, from the folder alone; None where it has none."""
    return _receipt(Path(run))[1]


def open_ktest(
    protocol: Protocol, checkpoint: str, run: Path | str, *, ledger: Path | str | None = None, who: str | None = None
) -> Look | None:
    """Enter in the ledger that K-test is about to be looked at; None where the protocol has no task of K-test.

    Call it before `evaluate`, with the same protocol, name (the checkpoint's fingerprint) and folder: the line is on
    the disk when this returns. A folder that was entered before gives the same line again. ledger: see
    `default_ledger`. who: as found unless given. Raises BadData for a ledger that `looks` refuses, for one without
    the folder's line, and for a folder of another checkpoint or protocol, before anything is written.
    """
    tasks = ktest_tasks(protocol)
    if not tasks:
        return None
    run = Path(run)
    ledger = default_ledger(run) if ledger is None else Path(ledger)
    _require_run(run, protocol, checkpoint)
    ledger.parent.mkdir(parents=True, exist_ok=True)
    # The folder's lock, not the file's: git may put another file in its place while somebody waits.
    with locked(ledger.parent):
        past = _read(ledger)
        name, kept = _receipt(run)
        if not name:
            # The name first: a kill after the line was written must not make it look like another folder's.
            name = secrets.token_hex(8)
            write_atomic(run / RECEIPT, json.dumps({"run": name, "line": None}) + "\n")
        mine = next((look for look in past if look.run == name), None)
        if kept is not None and mine != kept:
            raise BadData(
                f"{ledger} lacks the line that {run / RECEIPT} was entered with",
                "every opening, for good",
                "restore the ledger from version control, or give the ledger that this run was entered in",
            )
        if mine is None:
            root = provenance.checkout(__file__)
            fields = {
                "time": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"), "who": who or _who(ledger.parent),
                "checkpoint": checkpoint, "protocol": protocol.id, "fingerprint": protocol.fingerprint(),
                "tasks": list(tasks), "episodes": protocol.episodes,
                "commit": provenance.commit(root) if root else "unknown", "before": len(past),
                "before_checkpoint": sum(look.checkpoint == checkpoint for look in past), "run": name,
                "after": past[-1].hash if past else START,
            }  # fmt: skip
            entry = {**fields, "hash": _seal(fields)}
            _append(ledger, line(entry))
            mine = _look(entry, str(ledger))
        elif (mine.checkpoint, mine.fingerprint) != (checkpoint, protocol.fingerprint()):
            raise BadData(
                f"{run} was entered for checkpoint {mine.checkpoint} and protocol {mine.protocol} ({mine.fingerprint})",
                f"{checkpoint} and {protocol.id} ({protocol.fingerprint()}): another look is another line",
                "use another run folder",
            )
        if kept is None:
            write_atomic(run / RECEIPT, json.dumps({"run": mine.run, "line": asdict(mine)}, indent=1) + "\n")
    return mine


def _require_run(run: Path, protocol: Protocol, checkpoint: str) -> None:
    """Refuse a folder whose rows `evaluate` would refuse to go on with: nothing would be looked at."""
    try:
        about = json.loads((run / "run.json").read_text())
    except FileNotFoundError:
        return
    except ValueError as error:
        raise BadData(f"{run / 'run.json'}: {error}", "the run file of an evaluation", "use another folder") from error
    for what, mine in (("protocol", protocol.to_json()), ("policy", checkpoint)):
        if about.get(what) != mine:
            raise BadData(f"{run} holds the rows of another {what}: {about.get(what)}", f"{mine}", "use another folder")


def _receipt(run: Path) -> tuple[str, Look | None]:
    """The folder's name in the ledger ("" where it was never entered), and its line (None before it was written)."""
    file = run / RECEIPT
    try:
        data = json.loads(file.read_text())
        name, kept = str(data["run"]), data["line"]
    except FileNotFoundError:
        return "", None
    except (ValueError, KeyError, TypeError) as error:
        raise BadData(f"{file}: {error!r}", "what an opening wrote there", "use another run folder") from error
    return name, None if kept is None else _look(kept, str(file))


def _seal(fields: Mapping[str, Any]) -> str:
    return hashlib.sha256(line({k: v for k, v in fields.items() if k != "hash"})).hexdigest()


def _look(data: Any, where: str) -> Look:
    """A line as an opening, its own hash checked."""
    try:
        if data["hash"] != _seal(data):
            raise ValueError("its hash is not that of its content")
        return Look(**{**data, "tasks": tuple(data["tasks"])})
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadData(
            f"{where} was edited or damaged: {error}",
            "a line as it was written",
            "restore the file from version control; no line of it is ever changed",
        ) from error


def _read(ledger: Path) -> tuple[Look, ...]:
    """The whole chain, checked from its first line to its last, and against the last commit."""
    data = ledger.read_bytes() if ledger.exists() else b""
    *whole, rest = data.split(b"\n")
    if rest:
        raise BadData(
            f"{ledger}, line {len(whole) + 1} is cut short",
            "whole lines",
            "if the machine went down while it was written, no episode of it ran: remove that line and no other; "
            "else restore the file from version control",
        )
    whole = [text.removesuffix(b"\r") for text in whole]  # git may have turned the line ends
    out: list[Look] = []
    for number, text in enumerate(whole, 1):
        where = f"{ledger}, line {number}"
        try:
            entry = json.loads(text)
            # Byte for byte: a key given twice, or what only looks alike, is no line that was written here.
            exact = line(entry) == text + b"\n"
        except (ValueError, AttributeError) as error:
            raise BadData(f"{where}: {error}", "one opening as JSON", "restore it from version control") from error
        look = _look(entry if exact else None, where)
        before = (len(out), sum(p.checkpoint == look.checkpoint for p in out))
        if look.after != (out[-1].hash if out else START) or (look.before, look.before_checkpoint) != before:
            raise BadData(
                f"{where} does not follow the line above it",
                "every line that was ever written, in order",
                "a line was removed, added or moved: restore the file from version control",
            )
        out.append(look)
    committed = _committed(ledger)
    if whole[: len(committed)] != committed:
        raise BadData(
            f"{ledger} does not begin with the {len(committed)} lines of the last commit",
            "lines added at its end alone",
            "restore it from version control; openings since then belong below those lines",
        )
    return tuple(out)


def _committed(ledger: Path) -> list[bytes]:
    """The lines of the ledger in its checkout's last commit; none outside a checkout, or without git."""
    root = provenance.checkout(ledger)
    if root is None:
        return []
    name = ledger.resolve().relative_to(root).as_posix()
    try:
        done = subprocess.run(("git", "-C", str(root), "cat-file", "blob", f"HEAD:{name}"), capture_output=True)
    except FileNotFoundError:
        return []
    return [text.removesuffix(b"\r") for text in done.stdout.split(b"\n")[:-1]] if not done.returncode else []


def _append(ledger: Path, text: bytes) -> None:
    """Add one whole line, on the disk when this returns; a line that does not fit is taken back."""
    new = not ledger.exists()
    handle = os.open(ledger, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        size = os.fstat(handle).st_size
        try:
            if os.write(handle, text) != len(text):
                raise OSError("only a part of the line could be written")
            os.fsync(handle)
        except OSError as error:
            os.ftruncate(handle, size)
            raise Refusal(f"{ledger}: {error}", "room for one line", "free some space; nothing was opened") from error
    finally:
        os.close(handle)
    if new and hasattr(os, "O_DIRECTORY"):  # the file's name is on the disk only once its folder is
        folder = os.open(ledger.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _who(folder: Path) -> str:
    """The name git would sign a commit with in this folder, else the login. No address: a hash of one is guessed
    from a list of addresses, and a name is what a reader of the ledger can ask."""
    try:
        done = subprocess.run(("git", "-C", str(folder), "config", "user.name"), capture_output=True, text=True)
        if name := done.stdout.strip():
            return name
    except FileNotFoundError:
        pass
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):  # a container's user without an entry
        return "unknown"
