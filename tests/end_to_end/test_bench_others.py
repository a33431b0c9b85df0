"""Records of height reaching and hidden state are computed from episodes: their expert, and who lacks a sense."""

from __future__ import annotations

import pytest

from mindhand.core.record import read_rows
from mindhand.recipes import bench_others
from mindhand.recipes.bench import BENCHES
from mindhand.worlds import hidden


def test_every_record_is_of_its_rows(tmp_path):
    made = {r.name: r for r in bench_others.others(str(tmp_path), episodes=1, tries=3, windows=2, seconds=0.01)}
    assert BENCHES["others"][1] is bench_others.others
    for family, kinds in bench_others.KINDS.items():
        experts = made[f"desk/expert_success/{family}"]
        assert (experts.value, experts.n) == (1.0, len(kinds))
        assert {r["key"].split("/")[2] for r in read_rows(experts, tmp_path)} == set(kinds)
        assert made[f"desk/negative_controls/{family}_random"].value == 0.0
        for name in ("no_camera", "two_cameras_128"):
            assert made[f"desk/steps_per_second/{family}_{name}"].value > 10
    assert made["desk/negative_controls/height_reaching_presuming_varied"].chance == pytest.approx(0.2)
    for kind, chance in hidden.CHANCE.items():
        record = made[f"desk/negative_controls/hidden_state_forgetful_{kind}"]
        assert record.chance == (pytest.approx(chance) if chance < 1 else None) and record.n == 3
    assert made["desk/negative_controls/hidden_state_forgetful_seen"].value == 1.0  # the picture tells
    assert made["desk/negative_controls/height_reaching_presuming_flat"].value == 1.0  # so does the mean
