"""Arms: what a policy is told or shown is another, and nothing else is."""

from __future__ import annotations

import numpy as np
import pytest

from mindhand.core.errors import BadData
from mindhand.core.keys import Key
from mindhand.evaluate.arms import ARMS, LANGUAGE, THOUGHTS, Changed, ChangedWorlds, sensitivity
from mindhand.evaluate.protocol import HEIGHTS
from mindhand.evaluate.run import evaluate, film_of
from mindhand.worlds.desk.world import DeskWorld
from tests.tiny_world import TinyWorld, Walker, keys

from .tiny import PROTOCOL


class Listener(Walker):
    """Goes where it is told, and to what it sees first where it is told nothing."""

    deaf = False

    def act(self, obs, state, *, want=()):
        heard = [t if t and not self.deaf else "touch red" for t in obs.text["instruction"]]
        return super().act(obs.with_text("instruction", heard), state, want=want)


class Deaf(Listener):
    """Goes to the red one whatever it is told."""

    deaf = True


class Thinker(Walker):
    """Does what it thinks; by itself it thinks what it is told."""

    def act(self, obs, state, *, want=()):
        thought = obs.text.get("thought", obs.text["instruction"])
        heard = ["touch " + t.rpartition("touch ")[2].rstrip(".") if t else "touch red" for t in thought]
        return super().act(obs.with_text("instruction", heard), state, want=want)


def rows_of(policy, folder, arm=None, film=None):
    world = TinyWorld if arm is None else ChangedWorlds(TinyWorld, arm)
    return evaluate(PROTOCOL, policy, world, folder, name=policy.__name__, film=film)


def test_every_arm_changes_what_it_says_and_nothing_else():
    plain = TinyWorld(2)
    plain.reset(keys(2), [0, 1])
    before = plain.observe([0, 1])
    for arm in ARMS:
        world = Changed(plain, arm)
        after = world.observe([0, 1])
        same = [np.array_equal(after.images["top"], before.images["top"]), after.text == before.text]
        assert same == [arm != "dark", arm == "dark"] and np.array_equal(after.state, before.state)
        recorded = world.observe([0, 1], ("top",))
        assert np.array_equal(recorded.images["top"], before.images["top"]), "the camera that films is not dark"
    assert Changed(plain, "blank").observe([0]).text["instruction"] == ("",)


def test_an_arm_that_changes_no_word_is_refused():
    class Stubborn(TinyWorld):
        def wordings(self, row):
            return dict.fromkeys(("swapped", "paraphrased"), self.observe([row]).text["instruction"][0])

    world = Stubborn(1)
    world.reset(keys(1), [0])
    for arm in ("swapped", "paraphrased"):
        with pytest.raises(BadData, match="as without it"):
            Changed(world, arm).observe([0])
    with pytest.raises(BadData, match="arm 'loud'"):
        Changed(world, "loud")


def test_a_world_without_other_words_is_told_so():
    """Of height reaching there is one task and one way to say it: blank says less, the others have no words."""
    task, *_ = HEIGHTS.tasks
    for arm in ("swapped", "paraphrased"):
        with DeskWorld(1) as desk:
            desk.reset([Key(HEIGHTS.id, task, 0)], [0])
            with pytest.raises(BadData, match=f"arm '{arm}': there is nothing else to say"):
                Changed(desk, arm).observe([0])
            assert Changed(desk, "blank").observe([0]).text["instruction"] == ("",)


def test_who_listens_fails_without_words_and_who_is_deaf_does_not_notice(tmp_path):
    rates = {}
    for policy in (Listener, Deaf):
        clean = rows_of(policy, tmp_path / policy.__name__)
        changed = {arm: rows_of(policy, tmp_path / policy.__name__ / arm, arm) for arm in LANGUAGE}
        found = sensitivity(clean, [changed["blank"], changed["swapped"]])
        rates[policy] = found, np.mean([r["success"] for r in changed["paraphrased"]])
        assert all(r["instruction"] == "" for r in changed["blank"])
    (hears, paraphrased), (deaf, _) = rates[Listener], rates[Deaf]
    assert hears.low > 0.5 and paraphrased > 0.9
    assert deaf.value == deaf.low == deaf.high == 0.0


def test_who_looks_is_lost_in_the_dark_and_films_show_why(tmp_path):
    clean = rows_of(Listener, tmp_path / "clean")
    dark = rows_of(Listener, tmp_path / "dark", "dark", film_of(PROTOCOL, "top", 1))
    assert np.mean([r["success"] for r in clean]) > 0.9 and np.mean([r["success"] for r in dark]) < 0.2
    assert sum(bool(r["film"]) for r in dark) == len(PROTOCOL.tasks)


def test_arms_of_other_episodes_are_refused(tmp_path):
    clean = rows_of(Listener, tmp_path / "a")
    with pytest.raises(BadData, match="other episodes"):
        sensitivity(clean, [clean[1:]])
    with pytest.raises(BadData, match="other episodes"):
        sensitivity(clean, [[*clean[1:], clean[0]]])
    assert sensitivity(clean, [clean]).value == 0


def test_given_thoughts_are_those_of_the_arm(tmp_path):
    world = TinyWorld(1)
    world.reset(keys(1), [0])
    right = world.thoughts(0)
    given = {arm: Changed(world, arm).observe([0]).text["thought"][0] for arm in THOUGHTS}
    assert given["told"] == right["told"] and given["misled"] == right["misled"] != right["told"]
    assert given["emptied"] == "" and right["told"].endswith(" " + given["last"]) and given["last"].startswith("touch")
    rates = {arm: np.mean([r["success"] for r in rows_of(Thinker, tmp_path / arm, arm)]) for arm in THOUGHTS}
    assert rates["told"] == rates["last"] == 1 and rates["misled"] == 0 and rates["emptied"] < 1
    assert all(r["success"] for r in rows_of(Listener, tmp_path / "listener", "misled")), (
        "who does not think it, does not"
    )
