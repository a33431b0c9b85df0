"""One opener for all layouts, and what it says of a folder that is none."""

from __future__ import annotations

from pathlib import Path

import pytest

from mindhand.core.errors import BadData
from mindhand.data.doctor import doctor
from mindhand.data.hdf5 import HDF5Reader
from mindhand.data.lerobot_format import INCOMING
from mindhand.data.lerobot_read import LeRobotReader
from mindhand.data.lerobot_v21 import LeRobotV21
from mindhand.data.opening import KNOWN, layout_of, open_dataset
from mindhand.data.rlds import RLDSReader
from tests.data import test_lerobot_v21, test_rlds


def test_each_layout_is_told_by_what_lies_there(dataset, tmp_path):
    assert layout_of(dataset) is LeRobotReader
    assert layout_of(test_lerobot_v21.old(tmp_path / "old")) is LeRobotV21
    assert layout_of(test_rlds.written(tmp_path / "rlds")) is RLDSReader
    (tmp_path / "act").mkdir()
    (tmp_path / "act/episode_0.hdf5").write_bytes(b"")
    assert layout_of(tmp_path / "act") is HDF5Reader
    assert open_dataset(dataset).fingerprint() == LeRobotReader(dataset).fingerprint()


@pytest.mark.parametrize("make", [lambda p: None, Path.mkdir, Path.touch])
def test_a_path_that_is_no_dataset_lists_what_is_known(tmp_path, make):
    make(tmp_path / "it")
    with pytest.raises(BadData, match="no dataset that is known") as caught:
        open_dataset(tmp_path / "it")
    assert all(name in caught.value.expected for name in KNOWN)
    assert doctor(tmp_path / "it").exit_code == 1


def test_a_folder_above_one_names_it(tmp_path):
    test_rlds.written(tmp_path / "1.0.0")
    (tmp_path / "notes").mkdir()
    with pytest.raises(BadData, match=r"open one of the folders in it: \['1\.0\.0'\]"):
        open_dataset(tmp_path)


def test_a_recording_that_never_ended_is_not_taken_for_nothing(tmp_path):
    (tmp_path / INCOMING).mkdir()
    with pytest.raises(BadData, match="never finalized"):
        open_dataset(tmp_path)


def test_a_dataset_whose_description_is_damaged_is_one_still(tmp_path):
    (tmp_path / "a/meta").mkdir(parents=True)
    (tmp_path / "a/meta/info.json").write_text("{")
    with pytest.raises(BadData, match="not JSON"):
        open_dataset(tmp_path / "a")
    with pytest.raises(BadData, match=r"open one of the folders in it: \['a'\]"):
        open_dataset(tmp_path)
