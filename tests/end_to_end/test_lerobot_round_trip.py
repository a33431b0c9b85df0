"""What the round trip asks is true of what we write and read ourselves, and wrong frames, words and times are seen.
LeRobot is met by `recipes/lerobot_round_trip.py`."""

from __future__ import annotations

import numpy as np
import pytest

from mindhand.data.lerobot_read import LeRobotReader
from mindhand.data.lerobot_write import LeRobotWriter
from mindhand.recipes.lerobot_env import proof
from mindhand.recipes.lerobot_round_trip import FILE_MB, LENGTHS, OURS, SPEC, checks, episodes, filmed, ours, publish


@pytest.fixture(scope="module", params=[*OURS])
def found(request, tmp_path_factory):
    """What our reader gives of the episodes, PNG or h264, and whether it was filmed."""
    path, film = tmp_path_factory.mktemp("trip") / "it", OURS[request.param]
    with LeRobotWriter(path, SPEC, video=film, file_mb=FILE_MB) as writer:
        for e in episodes():
            writer.append(e)
    reader = LeRobotReader(path)
    assert len(reader.files) > 2
    return ours(reader), film


def failed(whole, film):
    return [what for what, ok in checks(whole, episodes(), film) if not ok]


def test_what_we_write_passes_with_ourselves(found):
    assert failed(*found) == []
    assert len([*checks(found[0], episodes(), found[1])]) == 2 + 8 * len(LENGTHS)


def test_a_frame_of_another_time_or_episode_is_seen(found):
    whole, film = found
    front = whole["front"].copy()
    front[[0, 1]] = front[[1, 0]]
    assert failed({**whole, "front": front}, film) == ["0/front"]
    late = np.roll(whole["wrist"], 1, 0)
    assert len(failed({**whole, "wrist": late}, film)) == len(LENGTHS)
    action = whole["action"].copy()
    action[-1, 0] = np.nextafter(action[-1, 0], np.float32(9))
    assert failed({**whole, "action": action}, film) == ["5/action"]
    assert failed({**whole, "task": whole["task"][::-1]}, film)
    assert "1/time" in failed({**whole, "timestamp": whole["timestamp"] + np.float32(1e-3)}, film)


def test_a_film_that_lost_too_much_is_seen():
    given = episodes()[0].images["front"]
    assert filmed(given, given) and not filmed(np.clip(given.astype(int) + 9, 0, 255).astype(np.uint8), given)


def test_what_is_asked_wrongly_is_refused(capsys):
    assert proof(publish, []) == 2 and "LeRobot's folder" in capsys.readouterr().err
