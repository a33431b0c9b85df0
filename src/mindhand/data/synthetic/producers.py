"""Pictures rendered by other processes while this one trains; the same batches in the same order for any number.

Worker w of W makes the steps start+w, start+w+W, ... and writes the pictures into a ring of shared memory; the rest
of a sample travels through a pipe, and so do the free slots, back. The end of a pipe is the end of its worker: one
whose reader is gone leaves, and the steps of one that died are made here, since a sample is a function of its place
(an error of the corpus itself is then raised here).
"""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import shutil
import signal
import warnings
import weakref
from collections.abc import Iterator
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path

import numpy as np

from .blend import Corpus
from .samples import ImageText

DEPTH = 3  # batches a worker may be ahead
_GONE = (EOFError, BrokenPipeError, ConnectionResetError)
_SHM = Path("/dev/shm")


@contextlib.contextmanager
def _deaf() -> Iterator[None]:
    """Ctrl-C reaches the whole group of processes, and only the reader may answer it, by closing the pipes. What is
    started in here has never heard of it: ignoring it later would be too late for the seconds of importing."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _slot(memory: SharedMemory, slot: int, rows: int, shape: tuple[int, ...]) -> np.ndarray:
    size = rows * int(np.prod(shape))
    return np.ndarray((rows, *shape), np.uint8, memory.buf, offset=slot * size)


def _work(corpus: Corpus, start: int, stride: int, name: str, shape: tuple[int, ...], pipe: Connection) -> None:
    memory = SharedMemory(name)
    try:
        for step in itertools.count(start, stride):
            slot = pipe.recv()
            try:
                samples = corpus.batch(step)
                _slot(memory, slot, corpus.rows, shape)[:] = [s.image for s in samples]
            except Exception as error:  # the reader will run into it too, and can be told where
                pipe.send((slot, f"{type(error).__name__}: {error}"))
                return
            pipe.send((slot, [(s.questions, s.glyphs, s.traits) for s in samples]))
    except _GONE:
        return
    finally:
        memory.close()


def _end(workers: list[tuple[BaseProcess, Connection]], memory: list[SharedMemory]) -> None:
    for _, pipe in workers:
        pipe.close()
    for process, _ in workers:
        process.join(2)
        if process.is_alive():
            process.kill()
            process.join()
    for m in memory:
        m.close()
        m.unlink()
    workers.clear()
    memory.clear()


class Producers:
    """An iterator over `corpus.batch(start)`, `corpus.batch(start + 1)`, ... made by `workers` processes.

    With 0 workers, or where processes or shared memory cannot be had, batches are made in this process. `close`
    ends the workers, and so do leaving a `with`, the end of this process, and its death. Scripts need the usual
    `if __name__ == "__main__"`: the processes are spawned.
    """

    def __init__(self, corpus: Corpus, workers: int = 1, start: int = 0):
        self.corpus, self.step, self._start = corpus, start, start
        self._workers: list[tuple[BaseProcess, Connection]] = []
        self._memory: list[SharedMemory] = []
        self.close = weakref.finalize(self, _end, self._workers, self._memory)  # also runs at exit
        if workers > 0:
            try:
                self._open(workers)
            except OSError as error:
                warnings.warn(f"no producer processes ({error}): rendering in this process", stacklevel=2)
                _end(self._workers, self._memory)

    def _open(self, workers: int) -> None:
        self._shape = self.corpus.sample(self.step, 0).image.shape
        size = workers * DEPTH * self.corpus.rows * int(np.prod(self._shape))
        if _SHM.is_dir() and shutil.disk_usage(_SHM).free < size:  # writing there would end in a bus error
            raise OSError(f"{_SHM} has less than {size} bytes left")
        self._memory.append(SharedMemory(create=True, size=size))
        context = multiprocessing.get_context("spawn")  # a fork would share this process's OpenGL context
        for w in range(workers):
            mine, theirs = context.Pipe()
            arguments = (self.corpus, self.step + w, workers, self._memory[0].name, self._shape, theirs)
            process = context.Process(target=_work, args=arguments, daemon=True, name=f"producer {w}")
            with _deaf():
                process.start()
            theirs.close()
            self._workers.append((process, mine))
            for slot in range(w * DEPTH, (w + 1) * DEPTH):
                mine.send(slot)

    def __iter__(self) -> Iterator[list[ImageText]]:
        return self

    def __next__(self) -> list[ImageText]:
        step, self.step = self.step, self.step + 1
        if not self._workers:
            return self.corpus.batch(step)
        process, pipe = self._workers[(step - self._start) % len(self._workers)]
        try:
            slot, rest = pipe.recv()
        except _GONE:
            process.join(1)
            rest = f"exit code {process.exitcode}"
        if isinstance(rest, str):
            warnings.warn(f"{process.name} ended ({rest}): rendering its steps here", stacklevel=2)
            return self.corpus.batch(step)
        images = _slot(self._memory[0], slot, self.corpus.rows, self._shape).copy()
        with contextlib.suppress(*_GONE):  # dead since: the next turn of this worker finds out
            pipe.send(slot)
        return [ImageText(image, *told) for image, told in zip(images, rest, strict=True)]

    def __enter__(self) -> Producers:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
