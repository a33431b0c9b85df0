"""What a wrapper learned, from the command line to a policy that acts; what choosing costs; the controls of a proof."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from mindhand.core.errors import BuildError
from mindhand.methods import wrapped
from mindhand.methods.run.taco import Config
from mindhand.methods.run.taco import fit as fit_taco
from mindhand.model.store import save_vla
from mindhand.recipes import bench_sampling, tiny
from mindhand.recipes.fit import fit
from mindhand.recipes.proofs import taco as proof
from tests.contract.bases import SPEC, flow, frames, policy
from tests.data.make import make_episode, write
from tests.seams.build import observation


def test_counts_are_fitted_on_a_checkpoint_s_demonstrations(tmp_path):
    vla = policy(flow()).eval()
    save_vla(vla, tmp_path / "policy")
    demos = write(tmp_path / "demos", [make_episode(i, spec=SPEC) for i in range(2)], SPEC)
    made = fit("taco", tmp_path / "policy", demos, tmp_path / "counts", every=3)
    obs = observation()
    taco = wrapped(vla, [f"taco={tmp_path / 'counts'}"])
    counts = taco.act(obs, taco.start(obs.keys))[0].extra["counts"]
    assert counts.shape == (2, made.config.samples) and (counts > 0).all()
    with pytest.raises(BuildError, match="'flashvla' fitted"):
        fit("flashvla", tmp_path / "policy", demos, tmp_path / "other")


def test_what_choosing_costs_is_measured_side_by_side(tmp_path):
    vla = bench_sampling.policy("test", tiny.SPEC)
    found = bench_sampling.publish(tmp_path, vla, repeats=3)
    assert [r.name for r in found] == [f"sampling/best_of_{n}_cost_ratio/cpu" for n in (8, 32)]
    assert all(r.n == 3 and r.value > 1 for r in found), "choosing among many is not cheaper than not choosing"
    taco, obs = bench_sampling.choosing(vla, 32), tiny.observation()
    assert taco.act(obs, taco.start(obs.keys))[0].extra["counts"].shape == (2, 32)


def test_a_proof_s_arms_fit_once_and_draw_as_many(tmp_path, monkeypatch):
    """TACO's counts are those of the training's own policy, kept; its controls do not look."""
    vla, f, fits = policy(flow()).eval(), frames(), []
    small = Config(samples=4, bank=2, width=16, blocks=1, epochs=1)

    def counted(vla, frames, config, seed):
        fits.append((frames.horizon, seed))
        return fit_taco(vla, frames, small, seed)

    monkeypatch.setattr(proof, "fit", counted)
    monkeypatch.setattr(proof, "prepare", lambda stand, console: (f.reader, f.cache))
    stand = SimpleNamespace(
        bench=SimpleNamespace(horizon=f.horizon, camera="front"), folder=lambda arm, n: Path(tmp_path) / arm / str(n)
    )
    made = [proof.counted(vla, stand, 1)(vla) for _ in range(2)]
    assert fits == [(f.horizon, 1)] and made[0].config == small
    obs = observation()
    told, _ = vla.propose(obs, vla.start(obs.keys), 4)
    seen = set()
    for mean in (False, True):
        blind, state = proof.Blindly(vla, mean, samples=4), None
        state = blind.start(obs.keys)
        for query in range(4):
            chunk, after = blind.act(obs, {**state, "asked": np.full(2, query)})
            same = [i for i in range(4) if np.array_equal(chunk.actions[0], told.actions[0, i])]
            seen.update(same)
            assert len(same) == (0 if mean else 1)
            assert not mean or np.allclose(chunk.actions, told.actions.mean(1))
        assert after["base"]["query"].tolist() == [1, 1]
    assert len(seen) > 1
    names = [arm.name for arm in proof.PROOF.all]
    assert names == ["baseline", "taco", "random-of-m", "mean-of-m"]
