"""Fingers and boxes are where the toys are seen, and toys stand as they are put."""

import math

import numpy as np
import pytest

from mindhand.core.errors import BadData
from mindhand.worlds import grips
from mindhand.worlds.boards import Notice
from mindhand.worlds.desk import arm
from mindhand.worlds.desk.body import ARM_POS
from mindhand.worlds.desk.kinematics import inverse, tool_down
from mindhand.worlds.desk.placing_judge import gap
from mindhand.worlds.desk.playground import ToyStage
from mindhand.worlds.desk.proxies import BOXES, proxy
from mindhand.worlds.desk.toys import pieces
from mindhand.worlds.grips import GRIPS, HOLDERS, TIP, WIDE, fits, grip
from mindhand.worlds.placing import PlacingScene
from mindhand.worlds.things import BY_NAME, THINGS, Toy, ToyScene

from .test_placing import SCENES

BLANK = Notice(("open",), "sans", "white", "black")


def between(name, inside):
    """(n,) where points (mm grid, within the shape by `inside`) lie along the closing direction, between the pads."""
    held = GRIPS[name]
    c, s = math.cos(held.yaw), math.sin(held.yaw)
    across, along = np.linspace(-WIDE / 2, WIDE / 2, 9), np.arange(-0.040, 0.0401, 0.0005)
    up = np.arange(held.up - TIP, held.up + 0.036, 0.002)
    u, v, z = (a.ravel() for a in np.meshgrid(across, along, up, indexing="ij"))
    return v[inside(np.stack([held.x + c * u - s * v, held.y + s * u + c * v, z], 1))]


def seen(name):
    """The extent along the closing direction, between the pads, of the shape that is drawn."""
    n = 16
    i, j = np.meshgrid(range(n + 1), range(n + 1))
    a, b = i[i + j <= n] / n, j[i + j <= n] / n
    corners = np.concatenate([p.solid for p in pieces(name)])
    dots = np.einsum("tck,cn->tnk", corners, np.stack([a, b, 1 - a - b])).reshape(-1, 3)
    held = GRIPS[name]
    c, s = math.cos(held.yaw), math.sin(held.yaw)
    x, y = dots[:, 0] - held.x, dots[:, 1] - held.y
    there = (abs(c * x + s * y) < WIDE / 2) & (dots[:, 2] > held.up - TIP) & (dots[:, 2] < held.up + 0.036)
    v = (c * y - s * x)[there]
    return v.min(), v.max()


def felt(name):
    """The same of the boxes that the simulator has."""
    form = proxy(name)

    def inside(points):
        out = np.zeros(len(points), bool)
        for at, half, turn in zip(form.middles, form.halves, form.turns):
            d, c, s = points - at, math.cos(turn), math.sin(turn)
            own = np.stack([c * d[:, 0] + s * d[:, 1], c * d[:, 1] - s * d[:, 0], d[:, 2]], 1)
            out |= (abs(own) <= half + 1e-9).all(1)
        return out

    v = between(name, inside)
    return v.min(), v.max()


@pytest.mark.parametrize("name", GRIPS)
def test_fingers_close_on_what_is_seen(name):
    half = GRIPS[name].width / 2
    for low, high, cut, miss in ((*seen(name), 0.0026, 0.0013), (*felt(name), 0.0003, 0.0006)):
        assert half - miss <= -low <= half + cut
        assert half - miss <= high <= half + cut
    assert 0.012 <= GRIPS[name].width <= 0.054  # a hand that holds it is neither open nor empty (`spec.HAND`)
    assert GRIPS[name].up - TIP > 0.002


@pytest.mark.parametrize("thing", THINGS, ids=lambda t: t.name)
def test_what_is_felt_is_where_the_toy_is(thing):
    form = proxy(thing.name)
    assert len(form.turns) <= BOXES
    c, s = np.cos(form.turns)[:, None], np.sin(form.turns)[:, None]
    x, y = (form.halves[:, k, None] * side for k, side in enumerate(((-1, -1, 1, 1), (-1, 1, -1, 1))))
    corners = np.stack([c * x - s * y, s * x + c * y], -1) + form.middles[:, None, :2]
    assert np.hypot(*corners.reshape(-1, 2).T).max() < thing.reach + 0.004
    assert (form.middles[:, 2] + form.halves[:, 2]).max() <= thing.height + 0.001
    assert (form.middles[:, 2] - form.halves[:, 2]).min() == pytest.approx(0, abs=1e-9)
    assert (form.inertia > 0).all()


def test_every_toy_stands_still_as_it_is_put():
    stage = ToyStage()
    for begin in range(0, len(THINGS), 6):
        some = THINGS[begin : begin + 6]
        toys = tuple(Toy(t.name, "red", "plain", -0.3 + 0.12 * k, 0.3, 0.3 * k) for k, t in enumerate(some))
        scene = PlacingScene(ToyScene(toys), 0, 1, "left of", BLANK, "")
        stage.dress(scene)
        stage.set(np.array([0.0, -1.0, 0.8, 0.0, 1.2, 0.0]), 1.0, [(t.x, t.y, t.yaw) for t in toys])
        for _ in range(30):
            stage.advance()
        off = np.abs(stage.positions - [(t.x, t.y, 0) for t in toys]).max(1)
        assert off.max() < 5e-4, [t.name for t in some]
        assert stage.data.xmat[stage.ids.tiles[: len(some)], 8].min() > 0.9999


def test_slots_are_told_to_the_simulator_in_full():
    """Where compiling finds frames alike it marks them, and would then not look at what is set later."""
    m = ToyStage().model
    slots = [m.body(f"toy{k}").id for k in range(6)]
    geoms = np.isin(m.geom_bodyid, slots)
    assert not m.geom_sameframe[geoms].any()
    assert not m.body_sameframe[slots].any()
    assert not m.body_simple[slots].any()


def test_masses_are_those_of_the_scene_whatever_the_slot_was_before():
    stages = [ToyStage(), ToyStage()]
    for scene in SCENES["K-dev"][:3]:
        stages[0].dress(scene)
    stages[1].dress(SCENES["K-dev"][2])
    names = ("body_mass", "body_inertia", "body_ipos", "body_invweight0", "dof_M0", "dof_invweight0", "geom_size",
             "geom_pos", "geom_quat", "geom_rbound", "geom_aabb", "body_subtreemass")  # fmt: skip
    for name in names:
        assert np.array_equal(*(getattr(s.model, name) for s in stages)), name
    for name in ("meaninertia", "extent"):
        assert getattr(stages[0].model.stat, name) == getattr(ToyStage().model.stat, name)
    weights = stages[1].model.body_invweight0[stages[1].ids.tiles[0], 0]
    assert weights == pytest.approx(1 / proxy(SCENES["K-dev"][2].toys.toys[0].thing).mass)


def test_containers_are_not_lifted():
    with pytest.raises(BadData, match="bowl"):
        grip("bowl")
    assert set(GRIPS) | {t.name for t in THINGS if t.holds} == set(BY_NAME)
    assert not fits("ball", "basket")  # its handle is in the way
    assert all(BY_NAME[n].holds for n in HOLDERS)


def test_the_gripper_is_the_arm_s():
    assert gap(1.0) == pytest.approx(grips.OPEN)
    assert (2 * arm.PAD[1], 2 * arm.PAD[2], arm.TIP) == (grips.PAD, grips.WIDE, grips.TIP)
    assert (*grips.BASE, 0.0) == ARM_POS
    down = inverse((grips.HIGHEST, 0.0, 0.15), tool_down(0.0), np.zeros(6))  # the highest that a toy is carried
    assert down.exact
