"""What the state says is said alike in training and when acting, and a checkpoint keeps it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mindhand.core.errors import BuildError
from mindhand.core.keys import Key
from mindhand.core.nouns import Observation
from mindhand.data.synthetic.moments import Moment
from mindhand.data.synthetic.picture import front
from mindhand.model.state_words import StateWords
from mindhand.model.store import PARTS
from mindhand.worlds.desk.spec import HAND
from mindhand.worlds.scene import sample_task

TELLS = StateWords(1, (0.25, 0.5), ("low", "middle", "high"))


@given(st.lists(st.floats(-1, 2, width=32), min_size=1, max_size=5))
def test_training_and_acting_say_the_same_of_the_newest_state(values):
    rows = len(values)
    state = np.full((rows, 2, 3), 9.0, np.float32)
    state[:, -1, 1] = values
    obs = Observation(
        images={},
        present={},
        state=state,
        text={"instruction": ("go",) * rows},
        keys=tuple(Key("t", "t", i) for i in range(rows)),
        time=np.zeros((rows, 2)),
    )
    acting = TELLS.act(obs, {})[0].text["instruction"]
    rng = np.random.default_rng(0)
    assert acting == tuple(TELLS.train({"instruction": "go", "state": s[-1]}, rng)["instruction"] for s in state)
    for value, said in zip(state[:, -1, 1], acting):
        assert said == f"go. {'low' if value <= 0.25 else 'middle' if value <= 0.5 else 'high'}"


def test_a_word_for_every_span():
    for edges, words in (((0.5,), ("one",)), ((0.5, 0.2), ("a", "b", "c"))):
        with pytest.raises(BuildError):
            StateWords(0, edges, words)


def test_a_checkpoint_can_name_it():
    assert PARTS.build(PARTS.describe("state_words", TELLS)) == TELLS


def test_a_moment_is_thought_about_with_the_state_of_its_hand():
    scene = sample_task(Key("evaluation", "maths_matching/R", 0))
    seen = front(scene)
    asked = [Moment(scene, (), *hand).thought(seen, "do it").question for hand in ((), (False, True))]
    assert asked == [f"do it. {HAND[2]}", f"do it. {HAND[0]}"]
