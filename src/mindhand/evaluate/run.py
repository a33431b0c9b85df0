"""An evaluation: protocol x policy x world -> rows, on several processes, through any number of interruptions.

    folder/run.json      protocol, policy, code, versions, hardware: what the rows belong to
    folder/rows.jsonl    one line an episode, in the protocol's order once complete; nothing a clock says
    folder/timing.jsonl  seconds of each query, by episode
    folder/films/        the filmed episodes

The rows are the same, byte for byte, for any number of workers and however often the run was killed.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mindhand.core import provenance
from mindhand.core.errors import BadData, Refusal
from mindhand.core.files import write_atomic
from mindhand.core.keys import Key
from mindhand.core.progress import progress
from mindhand.serve.execute import EpisodeResult, Film, run_episodes

from .journal import Journal
from .protocol import Protocol, keys
from .video import write_film

if TYPE_CHECKING:
    from rich.console import Console

    from mindhand.core.seams import Filter, Policy, World


@dataclass(frozen=True)
class Job:
    """What a worker needs; everything in it can be pickled, so the makers are functions of a module, or
    functools.partial of such."""

    protocol: Protocol
    policy: Callable[[], Policy]
    world: Callable[[int], World]  # given how many rows
    filters: Callable[[], Sequence[Filter]] | None
    film: Film | None
    folder: Path


def film_of(protocol: Protocol, camera: str, episodes: int = 3, **how: int) -> Film:
    """The first episodes of every task."""
    return Film(camera, frozenset(k for k in keys(protocol) if k.index < episodes), **how)


def row_of(result: EpisodeResult, film: str | None = None) -> dict[str, Any]:
    """An episode as a row: what it was, what came of it, what was thought; nothing that a clock said."""
    k = result.key
    return {
        "key": str(k), "protocol": k.protocol, "task": k.task, "index": k.index, "seed": k.seed,
        "success": result.success, "end": result.end, "steps": result.steps, "queries": result.queries,
        "instruction": result.instruction, "errors": result.errors, "thoughts": [list(t) for t in result.thoughts],
        "interventions": [list(t) for t in result.interventions], "chosen_at": result.chosen_at,
        "notes": [list(t) for t in result.notes], "facts": dict(result.facts), "film": film,
    }  # fmt: skip


def key_of(row: Mapping[str, Any]) -> Key:
    """The Key of a row."""
    return Key(row["protocol"], row["task"], row["index"], row["seed"])


@contextmanager
def _one_thread() -> Iterator[None]:
    """torch on one thread, then as before: sums over several threads may round otherwise, and rows must not."""
    torch = sys.modules.get("torch")
    before = torch.get_num_threads() if torch else 1
    if torch:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        if torch:
            torch.set_num_threads(before)


def episodes(job: Job, policy: Policy, world: World, some: Sequence[Key], done: Callable[..., None]) -> None:
    """Run some episodes; `done(row, seconds)` for each as it ends, its film already written."""
    rate = world.spec.rate / (job.film.every if job.film else 1)

    def ended(result: EpisodeResult) -> None:
        film = None
        if result.film:
            name = str(result.key).replace("/", "_")
            film = f"films/{write_film(result.film, rate, job.folder / 'films' / name).name}"
        done(row_of(result, film), list(result.seconds))

    p = job.protocol
    p.require(world.spec)
    filters = job.filters() if job.filters else ()
    how: dict[str, Any] = {"replan": p.replan, "horizon_steps": p.steps, "rows": p.rows}
    with _one_thread():
        run_episodes(policy, world, some, **how, filters=filters, film=job.film, done=ended)


def _worker(job: Job, some: Sequence[Key], out: Any) -> None:
    """A process: runs some episodes and sends every row as it ends. Ctrl-C is the parent's to handle."""
    import multiprocessing
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()

    def send(*message: Any) -> None:
        if parent is not None and not parent.is_alive():
            os._exit(1)  # nobody reads any more
        out.put(message)

    try:
        policy, world = job.policy(), job.world(job.protocol.rows)
        episodes(job, policy, world, some, lambda row, seconds: send("row", row, seconds))
        send("end")
    except Refusal as refusal:  # its three parts, which cross a process border; the exception itself does not
        send("refused", refusal.what, refusal.expected, refusal.do)
    except Exception as error:
        import traceback

        send("refused", f"a worker failed: {error!r}\n{traceback.format_exc()}", "no error", "mend it, then run again")


def _shared_out(job: Job, jobs: Sequence[Sequence[Key]], take: Callable[..., None]) -> None:
    """Run each of the jobs in a process of its own, handing every row to `take` in this one."""
    import queue
    from multiprocessing import get_context

    context = get_context("spawn")
    out = context.Queue()
    crew = [context.Process(target=_worker, args=(job, some, out), daemon=True) for some in jobs]
    try:
        for one in crew:
            one.start()
        running = len(crew)
        while running:
            try:
                kind, *rest = out.get(timeout=1)
            except queue.Empty:
                if dead := [p.exitcode for p in crew if p.exitcode]:
                    raise Refusal(
                        f"a worker died with exit code {dead[0]} (out of memory, or killed)",
                        "workers that run to the end",
                        "every finished row is kept: run the same command again, with fewer workers",
                    ) from None
                continue
            if kind == "row":
                take(*rest)
            elif kind == "end":
                running -= 1
            else:
                raise Refusal(*rest)
    finally:
        for one in crew:
            one.terminate()
        for one in crew:
            one.join()


DECIDING = ("mindhand.core", "mindhand.kit", "mindhand.methods", "mindhand.model", "mindhand.worlds", "mindhand.serve",
            "mindhand.evaluate.arms", "mindhand.evaluate.protocol", "mindhand.evaluate.run")  # fmt: skip


@cache
def code() -> str:
    """A hash of the sources that an episode's outcome follows from; reports, recipes and training are none of them."""
    return provenance.code_hash(DECIDING)


def _open(folder: Path, protocol: Protocol, policy: str) -> dict[str, Any]:
    """run.json: made, or found to belong to the same protocol and policy."""
    file = folder / "run.json"
    mine = {"protocol": protocol.to_json(), "policy": policy}
    if not file.exists():
        root = provenance.checkout(__file__)
        about = {**mine, "commit": provenance.commit(root) if root else "unknown", "code": code(),
                 "versions": provenance.versions(), "hardware": provenance.hardware(), "seconds": 0.0}  # fmt: skip
        write_atomic(file, json.dumps(about, indent=1) + "\n")
        return about
    about = json.loads(file.read_text())
    for what in mine:
        if about.get(what) != mine[what]:
            raise BadData(
                f"{folder} holds the rows of another {what}: {about.get(what)}",
                f"{mine[what]}",
                "use another run folder, or remove this one",
            )
    return about


def evaluate(
    protocol: Protocol,
    policy: Callable[[], Policy],
    world: Callable[[int], World],
    folder: Path | str,
    *,
    name: str,
    workers: int = 1,
    filters: Callable[[], Sequence[Filter]] | None = None,
    film: Film | None = None,
    console: Console | None = None,
    some: Sequence[Key] | None = None,
) -> list[dict[str, Any]]:
    """Run what is missing of the protocol's episodes; returns all rows in the protocol's order (see `row_of`).

    some: only these of its episodes, for now; their rows are returned, and the folder stays one that can be gone on
    with.

    policy, world (given the number of rows): makers, called once in every worker process. name: which policy it
    is, down to its weights (a checkpoint's fingerprint): a folder takes rows of one policy and one protocol only.
    Raises BadData for a folder of something else, Refusal for whatever a worker refuses; all finished rows stay.
    """
    folder = Path(folder)
    begin = time.monotonic()
    about = _open(folder, protocol, name)
    every = keys(protocol)
    wanted = every if some is None else [k for k in every if k in set(some)]
    job = Job(protocol, policy, world, filters, film, folder)
    with Journal(folder / "timing.jsonl") as timing, Journal(folder / "rows.jsonl") as journal:
        missing = [k for k in wanted if str(k) not in journal.rows]
        if missing and journal.rows and about.get("code") != code():
            raise BadData(
                f"{folder} was begun with other code ({about.get('code')}, now {code()})",
                "all episodes of an evaluation by the same code",
                "use another run folder, or remove this one",
            )
        # One job a worker, none smaller than a batch: a row is free only at the end of a job, and asked in vain.
        count = min(workers, -(-len(missing) // protocol.rows))
        jobs = [missing[i::count] for i in range(count)]
        done = len(wanted) - len(missing)
        with progress(console, protocol.id, len(wanted), done, "episodes") as advance:

            def take(row: Mapping[str, Any], seconds: list[float]) -> None:
                nonlocal done
                if row["key"] not in timing.rows:
                    timing.append({"key": row["key"], "seconds": seconds})
                journal.append(row)
                done += 1
                advance(done)

            try:
                if len(jobs) == 1:
                    episodes(job, policy(), world(protocol.rows), missing, take)
                elif jobs:
                    _shared_out(job, jobs, take)
            finally:
                about["seconds"] = round(about["seconds"] + time.monotonic() - begin, 2)
                write_atomic(folder / "run.json", json.dumps(about, indent=1) + "\n")
        order = [str(k) for k in every if str(k) in journal.rows]
        timing.sort(order)
        rows = journal.sort(order)
        asked = {str(k) for k in wanted}
        return [row for row in rows if row["key"] in asked]


def latencies(folder: Path | str) -> dict[str, float]:
    """Milliseconds of one query of the whole batch: {"p50", "p90", "p99", "max", "queries"} from timing.jsonl.
    A query answered several rows and is in the file once for each; the percentiles are over rows, as a robot waits."""
    import numpy as np

    lines = (Path(folder) / "timing.jsonl").read_text().splitlines()
    ms = np.array([s for text in lines for s in json.loads(text)["seconds"]]) * 1e3
    p = np.percentile(ms, (50, 90, 99))
    return {"p50": float(p[0]), "p90": float(p[1]), "p99": float(p[2]), "max": float(ms.max()), "queries": len(ms)}
