"""Camera, lamp and table: as far from the usual as the level says, and what matters is seen and told apart."""

import math

import numpy as np
import pytest

from mindhand.core.keys import Key
from mindhand.worlds.desk.altered import TABLE, UNLIKE, ground, lighting, to_be_seen, toys_to_be_seen, viewpoint
from mindhand.worlds.desk.build import FRONT_EYE, FRONT_LOOK, LAMP
from mindhand.worlds.desk.toys import outline
from mindhand.worlds.desk.world import DeskWorld
from mindhand.worlds.perturb import LEVELS, MAGNITUDES, Perturbation, keys_of
from mindhand.worlds.things import COLOURS, FIELD

SHOWN = [np.array(rgb) / 255 for rgb in COLOURS.values()]


def key(index, task="spatial_placing/R"):
    return Key("perturbed", task, index)


@pytest.mark.parametrize(("seen", "shown"), [(to_be_seen(), ()), (toys_to_be_seen(), SHOWN)])
def test_camera_light_and_table_change_as_much_as_the_level_says(seen, shown):
    eye, lamp = np.subtract(FRONT_EYE, FRONT_LOOK), np.divide(LAMP, np.linalg.norm(LAMP))
    for i in range(8):
        tables = []
        for level in LEVELS[1:]:
            at, _ = viewpoint(keys_of(key(i), "camera", level), level, seen)
            away = at - FRONT_LOOK
            far, usual = np.linalg.norm(away), np.linalg.norm(eye)
            most = MAGNITUDES["camera"]
            angle = math.degrees(math.acos(min(1.0, away @ eye / far / usual)))
            assert most["cone"][level - 1] - 1e-6 <= angle <= most["cone"][level] + 1e-6
            assert most["distance"][level - 1] <= far / usual < 1.48
            light = lighting(keys_of(key(i), "light", level), level, shown)
            turn = math.degrees(math.acos(min(1.0, np.dot(light.direction, lamp))))
            assert MAGNITUDES["light"]["turn"][level - 1] - 1e-6 <= turn <= MAGNITUDES["light"]["turn"][level] + 1e-6
            picture = ground(keys_of(key(i), "background", level), level, shown)
            middle = picture[96:160, 96:160].reshape(-1, 3).mean(0) / 255
            tables.append(np.linalg.norm(middle - TABLE))
        assert tables[4] > tables[0]


def test_the_board_and_every_toy_are_in_the_picture_at_every_level():
    corners = np.array([(x, y, 0.0) for x in FIELD[0] for y in FIELD[1]])
    with DeskWorld(1) as world:
        for i in range(40):
            level = 1 + i % 5
            world.perturb = Perturbation(camera=level, layout=level)
            world.reset([key(i, f"spatial_placing/{('R', 'K-dev', 'X')[i % 3]}")], [0])
            points = [toys_to_be_seen(), corners]
            for toy, (x, y, z, yaw) in zip(world.scene(0).toys.toys, world.geometry([0])[0]["toys"]):
                c, s = math.cos(yaw), math.sin(yaw)
                points.append(outline(toy.thing) @ np.array([(c, -s, 0), (s, c, 0), (0, 0, 1)]).T + (x, y, z))
            pixels = np.concatenate([world.project(p, "front", [0])[0] for p in points])
            assert pixels.min() > -0.01 and pixels.max() < 128.01


def told_apart(colour):
    """Whether every toy's colour in this light, however bright, is nearest to itself, by a quarter."""
    lit = np.array(SHOWN) * colour / np.exp(np.log(colour).mean())
    away = np.linalg.norm(lit[:, None] - np.array(SHOWN), axis=2)
    return all(1.25 * away[k, k] <= np.delete(away[k], k).min() for k in range(len(SHOWN)))


def test_colours_keep_their_names_and_no_table_hides_a_toy():
    confused = near = 0
    for i in range(40):
        for level in LEVELS[1:]:
            light, table = keys_of(key(i), "light", level), keys_of(key(i), "background", level)
            assert told_apart(lighting(light, level, SHOWN).colour)
            middle = ground(table, level, SHOWN)[96:160, 96:160].reshape(-1, 3).mean(0) / 255
            off = np.linalg.norm(np.array(SHOWN) - middle, axis=1).min()
            assert off > UNLIKE - MAGNITUDES["background"]["contrast"][level]
            # Both were otherwise at the highest level, which the tiles, whose colours say nothing, do not mind.
            confused += not told_apart(lighting(light, level).colour)
            near += np.linalg.norm(np.array(SHOWN) - ground(table, level)[128, 128] / 255, axis=1).min() < UNLIKE / 2
    assert confused > 10 and near > 0
