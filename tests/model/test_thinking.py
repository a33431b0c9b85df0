"""Kept thoughts: who is not due goes on with what it thought, and nobody's neighbours matter."""

import numpy as np
import torch

from mindhand.model.reasoner import KeepingConfig, KeepingReasoner, ReasonerConfig, WordsReasoner
from mindhand.model.store import load_vla, save_vla
from mindhand.serve.rows import put_rows, take_rows

from ..seams.build import observation, vla
from ..seams.test_vla import expert

EVERY, HAND = 3, 1  # queries; the state's dimension that says what the hand does
CONFIG = KeepingConfig(limit=4, every=EVERY, at=HAND, edges=(0.5,))


def parse(text):
    return None


def policy(reasoner):
    torch.manual_seed(0)
    return vla(expert(), reasoner=reasoner).eval()


def seen(open_hand, seed=0):
    """Two rows whose hands are open or not."""
    obs = observation(seed=seed)
    state = obs.state.copy()
    state[:, -1, HAND] = [0.9 if x else 0.1 for x in open_hand]
    return type(obs)(obs.images, state, obs.text, obs.time, obs.keys, obs.present, obs.extras)


def written(made):
    """A list that grows with every decoded turn."""
    calls, decode = [], made.backbone._decode

    def counted(trunk, turn):
        calls.append(turn)
        return decode(trunk, turn)

    made.backbone._decode = counted
    return calls


def test_it_thinks_when_something_happened_or_long_ago():
    made = policy(KeepingReasoner(CONFIG, parse))
    calls, state = written(made), made.start(seen([1, 1]).keys)
    counts, said = [], []
    for open_hand in ([1, 1], [1, 1], [0, 1], [0, 1], [0, 1], [0, 1]):
        chunk, state = made.act(seen(open_hand, seed=len(counts)), state)
        counts.append(len(calls))
        said.append(chunk.reasoning.texts)
    # the first; the first row's hand closed; the second row after EVERY queries; the first again EVERY after its own
    assert counts == [1, 1, 2, 3, 3, 4]
    assert state["thoughts"]["query"].tolist() == [5, 3]
    assert said[0] == said[1] and said[1][1] == said[2][1] and said[3][0] == said[2][0]


def test_a_kept_thought_meets_the_new_picture():
    made = policy(KeepingReasoner(CONFIG, parse))
    first, state = made.think(seen([1, 1]), made.start(seen([1, 1]).keys))
    again, _ = made.think(seen([1, 1]), state)
    other, _ = made.think(seen([1, 1], seed=7), state)
    assert torch.equal(first.trunk.hidden["reasoning"], again.trunk.hidden["reasoning"])
    assert not torch.allclose(first.trunk.hidden["reasoning"], other.trunk.hidden["reasoning"])
    assert first.reasoning.texts == other.reasoning.texts


def test_who_thinks_beside_a_row_changes_nothing_of_it():
    made = policy(KeepingReasoner(CONFIG, parse))
    _, state = made.act(seen([1, 1]), made.start(seen([1, 1]).keys))
    quiet, _ = made.act(seen([1, 1]), state)
    busy, after = made.act(seen([1, 0]), state)  # only the second row's hand closed
    assert after["thoughts"]["query"].tolist() == [0, 1]
    assert np.array_equal(quiet.actions[0], busy.actions[0])


def test_always_due_says_what_words_say():
    every = policy(KeepingReasoner(KeepingConfig(4, 1, HAND, (0.5,)), parse))
    words = policy(WordsReasoner(ReasonerConfig(4), parse))
    a, b = ({"policy": p, "state": p.start(seen([1, 1]).keys)} for p in (every, words))
    for seed in range(3):
        chunks = []
        for one in (a, b):
            chunk, one["state"] = one["policy"].act(seen([1, 1], seed), one["state"])
            chunks.append(chunk)
        assert chunks[0].reasoning.texts == chunks[1].reasoning.texts
        assert np.allclose(chunks[0].actions, chunks[1].actions, atol=1e-4)


def test_a_given_thought_is_thought_at_once():
    made = policy(KeepingReasoner(CONFIG, parse))
    _, state = made.act(seen([1, 1]), made.start(seen([1, 1]).keys))
    told, state = made.act(seen([1, 1]).with_text("thought", ["7", "7"]), state)
    assert told.reasoning.texts == ("7", "7") == state["thoughts"]["texts"]


def test_rows_of_its_state_can_be_exchanged():
    made = policy(KeepingReasoner(CONFIG, parse))
    fresh = made.start(seen([1, 1]).keys)
    _, state = made.act(seen([1, 1]), fresh)
    mixed = put_rows(state, fresh, [1], 2)
    assert mixed is not None and mixed["thoughts"]["query"].tolist() == [0, -1]
    assert take_rows(state, [1, 1], 2) is not None


def test_a_checkpoint_keeps_it(tmp_path):
    made = policy(KeepingReasoner(CONFIG, parse))
    save_vla(made, tmp_path / "checkpoint")
    back = load_vla(tmp_path / "checkpoint", parse=parse).reasoner
    assert isinstance(back, KeepingReasoner) and back.config == CONFIG
