"""The gymnasium wrapper passes gymnasium's own checks."""

import warnings

import numpy as np
from gymnasium.utils.env_checker import check_env

from mindhand.core.keys import Key
from mindhand.worlds.desk.spec import ACTION_HIGH, ACTION_LOW
from mindhand.worlds.desk.world import DeskWorld
from mindhand.worlds.gym import WorldEnv


def test_gymnasium_accepts_it_and_seeds_name_episodes():
    env = WorldEnv(DeskWorld(1), "maths_matching/R", low=ACTION_LOW, high=ACTION_HIGH)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check_env(env, skip_render_check=False)
    first, info = env.reset(seed=3)
    assert info["key"] == str(Key("gym", "maths_matching/R", 3))
    following, _ = env.reset()
    again, _ = env.reset(seed=3)
    assert all(np.array_equal(first[k], again[k]) for k in first)
    assert not np.array_equal(first["front"], following["front"])
    given, info = env.reset(options={"key": Key("other", "maths_matching/K-dev", 9)})
    assert info["key"] == "other/maths_matching/K-dev/9/0"
    seen, reward, ended, truncated, info = env.step(env.action_space.sample())
    assert seen["instruction"] == given["instruction"]
    assert (reward, ended, truncated, info["success"]) == (0.0, False, False, False)
    assert env.render().shape == (128, 128, 3)
    env.close()
