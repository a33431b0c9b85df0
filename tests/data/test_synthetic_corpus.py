"""Samples are pure functions of their place; producers change nothing but the time, and leave nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mindhand.core.errors import BadData
from mindhand.data.synthetic import producers
from mindhand.data.synthetic.corpus import DeskCorpus, pretraining
from mindhand.data.synthetic.producers import Producers
from mindhand.data.synthetic.samples import (
    BOARD_CHARS,
    GLYPHS,
    NOTHING,
    ImageText,
    board_class,
    class_name,
    tile_class,
)  # fmt: skip
from mindhand.data.synthetic.toy_corpus import known_sums
from tests.processes import runs

from .synthetic_picture import dies, patches, refuses

CORPUS = pretraining(11, 20, rows=3, picture=patches)


def same(a: list[ImageText], b: list[ImageText]) -> bool:
    return len(a) == len(b) and all(
        np.array_equal(x.image, y.image) and x.questions == y.questions and x.glyphs == y.glyphs for x, y in zip(a, b)
    )


def blocks() -> set[str]:
    return {p.name for p in Path("/dev/shm").glob("psm_*")} if Path("/dev/shm").is_dir() else set()


def test_glyph_classes_are_distinct_and_named():
    classes = [NOTHING, *(board_class(c) for c in BOARD_CHARS), *(tile_class(d) for d in range(10))]
    assert classes == list(range(GLYPHS))
    assert class_name(board_class("7")) == "board 7"
    assert class_name(tile_class(7)) == "tile 7"
    for bad in (lambda: board_class("×"), lambda: board_class(""), lambda: board_class("12"), lambda: tile_class(10)):
        with pytest.raises(BadData):
            bad()


def test_a_sample_is_a_pure_function_of_its_place():
    first = CORPUS.batch(4)
    CORPUS.batch(7)
    assert same([CORPUS.sample(4, row) for row in (0, 1, 2)], first)
    assert same([replace(CORPUS, rows=1).sample(4, 2)], first[2:])
    others = [*first, *CORPUS.batch(5), *replace(CORPUS, seed=12).batch(4)]
    assert len({s.image.tobytes() for s in others}) == 9
    assert len({str(s.questions) for s in others}) == 9


def test_glyphs_are_where_the_picture_has_them():
    for sample, scene in ((CORPUS.sample(2, r), CORPUS.scene(2, r)) for r in range(3)):
        assert [class_name(g) for g, _, _ in sample.glyphs] == [
            *(f"board {c}" for c in scene.board.text),
            *(f"tile {t.digit}" for t in scene.tiles),
        ]
        for g, u, v in sample.glyphs:
            ink = sample.image[int(v), int(u)]
            name = class_name(g)
            assert ink[0] == (ord(name[-1]) if name.startswith("board") else int(name[-1]))


def test_a_glyph_outside_the_picture_is_refused():
    image = np.zeros((8, 16, 3), np.uint8)
    ImageText(image, (), ((1, 15.9, 7.9),))
    for bad in ((1, 7.0, 8.0), (1, 16.0, 1.0), (1, -0.1, 1.0), (1, np.nan, 1.0)):
        with pytest.raises(BadData, match="to the right first"):
            ImageText(image, (), (bad,))
    with pytest.raises(BadData, match="uint8"):
        ImageText(image.astype(np.float32), ())


@pytest.mark.parametrize(("workers", "start"), [(0, 0), (1, 5), (2, 1)])
def test_batches_do_not_depend_on_who_makes_them(workers, start):
    before = blocks()
    with Producers(CORPUS, workers, start) as stream:
        # more steps than slots, so that slots are used again
        made = [next(stream) for _ in range(workers * producers.DEPTH + 3)]
        pids = [p.pid for p, _ in stream._workers]
    for step, batch in enumerate(made, start):
        assert same(batch, CORPUS.batch(step))
    assert len(pids) == workers
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
    assert blocks() == before


def test_an_error_of_the_corpus_reaches_the_reader():
    corpus = replace(CORPUS, picture=refuses)
    even = next(s for s in range(50) if all(corpus.scene(s, r).equation.answer % 2 == 0 for r in range(3)))
    bad = next(s for s in range(even, 99) if any(corpus.scene(s, r).equation.answer % 2 for r in range(3)))
    with Producers(corpus, 1, even) as stream:
        for _ in range(even, bad):
            next(stream)
        with pytest.warns(UserWarning, match="an odd answer"), pytest.raises(BadData, match="an odd answer"):
            next(stream)


def test_steps_of_a_worker_that_dies_are_made_here(monkeypatch):
    monkeypatch.setenv("SYNTHETIC_TEST_PARENT", str(os.getpid()))
    with Producers(replace(CORPUS, picture=dies), 1) as stream:
        with pytest.warns(UserWarning, match="exit code 7"):
            first = next(stream)
        with pytest.warns(UserWarning, match="exit code 7"):
            second = next(stream)
    assert same(first, CORPUS.batch(0))
    assert same(second, CORPUS.batch(1))


def test_without_shared_memory_batches_are_made_here(monkeypatch):
    def none(*_, **__):
        raise OSError("no shared memory today")

    monkeypatch.setattr(producers, "SharedMemory", none)
    with pytest.warns(UserWarning, match="no shared memory today"):
        stream = Producers(CORPUS, 2, 3)
    assert same(next(stream), CORPUS.batch(3))


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
@pytest.mark.parametrize("how", ["interrupt", "kill"])
def test_nothing_outlives_a_training_that_ends_early(how, tmp_path):
    """Ctrl-C for the whole group, and a kill that lets nothing clean up."""
    root = Path(__file__).parents[2]
    (tmp_path / "train.py").write_text(
        textwrap.dedent("""
            import signal
            from mindhand.data.synthetic.corpus import pretraining
            from mindhand.data.synthetic.producers import Producers
            from tests.data.synthetic_picture import patches

            if __name__ == "__main__":
                # A shell that starts its jobs in the background lets them, and theirs, ignore it.
                signal.signal(signal.SIGINT, signal.default_int_handler)
                stream = Producers(pretraining(1, 10, rows=2, picture=patches), 2)
                next(stream)
                print(*[p.pid for p, _ in stream._workers], stream._memory[0].name, flush=True)
                for _ in stream:
                    pass
            """)
    )
    process = subprocess.Popen(
        [sys.executable, "train.py"], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(root)}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    *pids, name = process.stdout.readline().split()
    if how == "interrupt":
        os.killpg(process.pid, signal.SIGINT)
    else:
        process.kill()
    try:
        _, errors = process.communicate(timeout=120)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    # the pipe of stderr is shared by the workers: communicate returns only when all of them are gone
    assert not any(runs(pid) for pid in pids)
    assert name not in blocks()
    if how == "interrupt":
        assert errors.strip().endswith("KeyboardInterrupt")
        assert "leaked" not in errors
        assert errors.count("Traceback") == 1


def test_a_corpus_is_what_a_producer_can_be_sent():
    import pickle

    assert isinstance(pickle.loads(pickle.dumps(CORPUS)), DeskCorpus)
    code = "import sys, mindhand.data.synthetic.producers; print('torch' in sys.modules, 'mujoco' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.split() == ["False", "False"]  # a producer starts fast


def test_boards_beyond_the_robot_s_are_read_over_tiles_and_never_thought_about():
    corpus = replace(CORPUS, wide=1.0, steps=10, think=0)
    wide = set(known_sums()[1])
    for step in range(6):
        thought = corpus.sort(step) == "thought"
        for row in range(3):
            scene = corpus.scene(step, row)
            assert (scene.equation in wide) != thought and scene.board.text.rstrip("=?") == scene.equation.text
            assert scene.tiles == replace(corpus, wide=0.0).scene(step, row).tiles
