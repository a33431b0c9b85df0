"""ACT: trained by the loop of all, loaded from LeRobot's layout, and refused by LeRobot's names. LeRobot itself is met
by `recipes/act_parity.py`."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from mindhand.core.errors import BadCheckpoint
from mindhand.data.lerobot_format import ACTION, IMAGES, STATE
from mindhand.model.act_hand import ActConfig
from mindhand.model.resnet import ResNetEyesConfig
from mindhand.model.store import load_vla
from mindhand.model.vla import VLA
from mindhand.model.words import Words
from mindhand.recipes.act import act_parts, main, train
from mindhand.recipes.act_lerobot import FIXED, PLACES, SIZES, eyes_name, hand_name, load_act
from mindhand.recipes.act_parity import compare
from mindhand.recipes.tiny import HORIZON, SPEC, observation
from mindhand.train.stage import Optimiser

from ..data.make import make_episode, write

HAND = ActConfig(HORIZON, SPEC.action_size, SPEC.state_size, 16, 2, 32, 1, 1, 1, 4)
MEAN, STD = tuple((0.4, 0.5, 0.6) for _ in SPEC.roles), tuple((0.2, 0.3, 0.4) for _ in SPEC.roles)


@pytest.fixture(scope="module")
def policy():
    """Of a whole ResNet-18, which the layout asks for, with a small hand."""
    torch.manual_seed(0)
    vla = VLA(spec=SPEC, **act_parts(SPEC, Words.train([], 128), HAND, ResNetEyesConfig(SPEC.roles, 16, MEAN, STD)))
    g = torch.Generator().manual_seed(0)
    for name, x in vla.streams.state_dict().items():
        if "running" in name:
            x.copy_(0.5 + torch.rand(x.shape, generator=g))
    vla.load_statistics(
        {
            "action": {"codec": "standard-1", "mean": [0.1, 0.2, 0.3], "std": [1.0, 2.0, 3.0]},
            "state": {"mean": [0.0] * 5, "std": [1.0] * 5},
        }
    )
    return vla.eval()


def saved(vla, folder):
    """As LeRobot lays it out."""
    folder.mkdir()
    weights = {hand_name(n): x.contiguous() for n, x in vla.expert.state_dict().items()}
    weights |= {eyes_name(n): x.contiguous() for n, x in vla.streams[0].state_dict().items()}
    save_file({**weights, PLACES: vla.expert.steps[None].clone()}, folder / "model.safetensors")
    visual = {IMAGES + c.role: {"type": "VISUAL", "shape": [3, c.height, c.width]} for c in SPEC.cameras}
    config = {
        **FIXED,
        **{theirs: getattr(vla.expert.config, ours) for ours, theirs in SIZES.items()},
        "vision_backbone": "resnet18",
        "input_features": {**visual, STATE: {"type": "STATE", "shape": [5]}},
        "output_features": {ACTION: {"type": "ACTION", "shape": [3]}},
    }
    (folder / "config.json").write_text(json.dumps(config))
    told = {f"{n}.mean": torch.tensor(m)[:, None, None] for n, m in zip(visual, MEAN)}
    told |= {f"{n}.std": torch.tensor(s)[:, None, None] for n, s in zip(visual, STD)}
    told |= {f"{STATE}.mean": torch.zeros(5), f"{STATE}.std": torch.ones(5)}
    told |= {f"{ACTION}.mean": vla.codec.mean.clone(), f"{ACTION}.std": vla.codec.std.clone()}
    for which, step in (("pre", "normalizer_processor"), ("post", "unnormalizer_processor")):
        save_file(told, folder / f"{which}.safetensors")
        how = {"norm_map": {"VISUAL": "MEAN_STD", "STATE": "MEAN_STD", "ACTION": "MEAN_STD"}}
        steps = [{"registry_name": step, "config": how, "state_file": f"{which}.safetensors"}]
        (folder / f"policy_{which}processor.json").write_text(json.dumps({"steps": steps}))
    return folder


def test_what_lerobot_saves_acts_as_it_did(policy, tmp_path):
    """All tensors find their place: each was another number. What `compare` tells is nothing here, and of other weights
    something."""
    again = load_act(saved(policy, tmp_path / "it"), SPEC)
    obs = observation()
    a, b = (p.act(obs, p.start(obs.keys))[0].actions for p in (policy, again))
    assert np.allclose(a, b, atol=1e-6)
    with torch.no_grad():
        ctx, _ = policy.think(obs, policy.start(obs.keys))
        valid = torch.ones(2, HORIZON, dtype=torch.bool)
        code = policy.codec.encode(torch.from_numpy(a), valid, None)
        l1, kl = policy.expert.terms(ctx, code, torch.zeros(2, 4))
    theirs = {c.role: obs.images[c.role][:, 0] for c in SPEC.cameras}
    theirs |= {"state": obs.state[:, 0], "chunk": a, "actions": a, "pad": ~valid.numpy()}
    theirs |= {"l1": l1.numpy(), "kl": kl.numpy()}
    assert max(r["max_abs_action_difference"] for r in compare(again, theirs, "it")) < 1e-6
    with torch.no_grad():
        again.expert.leave.bias[0] += 0.5
    assert min(r["max_abs_action_difference"] for r in compare(again, theirs, "it")) > 0.4


def test_other_weights_are_refused_by_their_names(policy, tmp_path):
    folder = saved(policy, tmp_path / "it")
    file = folder / "model.safetensors"
    whole = load_file(file)
    name = "model.decoder.layers.0.multihead_attn.in_proj_weight"

    def refused(**change):
        some = {n: x for n, x in {**whole, **change}.items() if x is not None}
        save_file(some, file)
        with pytest.raises(BadCheckpoint) as error:
            load_act(folder, SPEC)
        return str(error.value)

    assert f"- {name} (48, 16): missing" in refused(**{name: None})
    assert "+ model.extra: unknown" in refused(**{"model.extra": torch.zeros(1)})
    assert f"! {name}: (48, 8), not (48, 16)" in refused(**{name: torch.zeros(48, 8)})
    assert f"! {PLACES}: other places" in refused(**{PLACES: whole[PLACES] + 1})
    file.write_bytes(b"")
    with pytest.raises(BadCheckpoint, match=r"model\.safetensors"):
        load_act(folder, SPEC)


def test_another_network_robot_or_processor_is_refused_by_name(policy, tmp_path):
    folder = saved(policy, tmp_path / "it")
    (folder / "model.safetensors").unlink()  # nothing of it is read before

    def refused(file, change, **how):
        kept = (folder / file).read_text()
        (folder / file).write_text(json.dumps(change(json.loads(kept))))
        with pytest.raises(BadCheckpoint) as error:
            load_act(folder, SPEC, **how)
        (folder / file).write_text(kept)
        return str(error.value)

    assert "pre_norm is True" in refused("config.json", lambda c: {**c, "pre_norm": True})
    assert "vision_backbone 'resnet50'" in refused("config.json", lambda c: {**c, "vision_backbone": "resnet50"})
    lacks = refused("config.json", lambda c: {n: x for n, x in c.items() if n != "latent_dim"})
    assert "lacks ['latent_dim']" in lacks
    wide = refused("config.json", lambda c: {**c, "output_features": {ACTION: {"type": "ACTION", "shape": [7]}}})
    assert "'action' [7], here [3]" in wide
    assert f"'{IMAGES}wrist' [3, 16, 16], here None" in refused(
        "config.json", dict, cameras={"front": f"{IMAGES}front"}
    )

    def first(**change):
        return lambda p: {"steps": [{**p["steps"][0], **change}]}

    pre = "policy_preprocessor.json"
    assert "'MIN_MAX'" in refused(pre, first(config={"norm_map": {"STATE": "MIN_MAX"}}))
    assert "has steps ['tokenizer']" in refused(pre, lambda p: {"steps": [*p["steps"], {"registry_name": "tokenizer"}]})
    renamed = {"registry_name": "rename_observations_processor", "config": {"rename_map": {"a": "b"}}}
    assert "renames {'a': 'b'}" in refused(pre, lambda p: {"steps": [renamed, *p["steps"]]})
    told = load_file(folder / "pre.safetensors")
    for which in ("pre", "post"):
        save_file({n: x for n, x in told.items() if n != f"{STATE}.std"}, folder / f"{which}.safetensors")
    with pytest.raises(BadCheckpoint, match=r"no statistics \['observation.state.std'\]"):
        load_act(folder, SPEC)


def test_it_is_trained_from_demonstrations_by_the_loop_of_all(tmp_path, capsys):
    """Two steps and then a third are three, to the bit, dropout included; then it is a checkpoint of this robot."""
    demos = write(tmp_path / "demos", [make_episode(i, spec=SPEC) for i in range(2)], SPEC)
    sizes = HAND, ResNetEyesConfig(SPEC.roles, 16, depths=(1, 1, 1, 1), channels=4)
    how = {"sizes": sizes, "optimiser": Optimiser(lr=1e-3, muon=0.0, warmup=0, decay=0.0)}
    train(demos, tmp_path / "run", 2, **how)
    again = train(demos, tmp_path / "run", 3, **how)
    straight = train(demos, tmp_path / "other", 3, **how)
    obs = observation()
    a, b = (p.act(obs, p.start(obs.keys))[0].actions for p in map(load_vla, (again, straight)))
    assert np.isfinite(a).all() and a.shape == (2, HORIZON, 3) and np.array_equal(a, b)
    lines = (tmp_path / "run" / "act" / "metrics.jsonl").read_text().splitlines()
    assert {"action", "l1", "kl"} <= json.loads(lines[-1]).keys()
    assert main(["one"]) == 2 and "a dataset" in capsys.readouterr().err
    assert load_vla(again).spec == SPEC
