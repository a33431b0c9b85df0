"""Parameter counts of the paper's configuration, on the meta device."""

import pytest
import torch

from mindhand.model.configs import expert_config, vlm_config
from mindhand.model.expert import ActionExpert
from mindhand.model.moe import MoEConfig, Upcycle
from mindhand.model.vlm import VLM


def billions(*modules) -> float:
    return sum(p.numel() for m in modules for p in m.parameters()) / 1e9


def test_qwen2_vl_2b_and_its_upcycling():
    with torch.device("meta"):
        model = VLM(vlm_config("qwen2-vl-2b"))
        assert billions(model.vision) == pytest.approx(0.665, abs=0.001)
        assert billions(model.towers, model.embedding) == pytest.approx(1.544, abs=0.001)
        ffn = billions(*(b.ffn for b in model.towers["vlm"].layers))
        assert ffn == pytest.approx(1.156, abs=0.001)
        Upcycle(MoEConfig(8, 2)).apply(model)
        stored = billions(model.towers, model.embedding)
        assert stored == pytest.approx(9.64, abs=0.005)
        hand = ActionExpert(expert_config("scaledp-h", action=10, horizon=16, state=7, trunk=1536))
        assert stored + billions(model.vision) + billions(hand) == pytest.approx(11.3, abs=0.05)
        active = stored - 6 * ffn  # 2 of 8 experts
        assert active == pytest.approx(2.70, abs=0.01)
        assert active + billions(model.vision) + billions(hand) == pytest.approx(4.32, abs=0.02)


def test_scaledp():
    with torch.device("meta"):
        for name, want in (("scaledp-h", 0.956), ("scaledp-l", 0.45)):
            hand = ActionExpert(expert_config(name, action=10, horizon=16, state=7, trunk=1536))
            bare = billions(hand) - billions(hand.prompt, hand.thought)
            assert bare == pytest.approx(want, rel=0.03), name


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="no config"):
        vlm_config("huge", 10)
    with pytest.raises(ValueError, match="vocabulary"):
        vlm_config("nano")
