"""Proofs on a handful of frames: cells train, resume, share a baseline, and become records only when all are there."""

from dataclasses import asdict, replace
from functools import partial
from itertools import product
from pathlib import Path

import pytest
import torch

from mindhand.core.card import Claim
from mindhand.core.checkpoint import load_checkpoint
from mindhand.core.errors import BadData, BuildError
from mindhand.data.files import read_json, read_rows, write_rows
from mindhand.evaluate.protocol import PLACING_CUE
from mindhand.methods import wrapped
from mindhand.methods.act.fast import plug as with_fast
from mindhand.methods.act.oft import plug as with_oft
from mindhand.methods.learn.rs_cl import plug as with_rs_cl
from mindhand.methods.run.flashvla import wrap as with_flash
from mindhand.recipes import proofs as all_proofs
from mindhand.recipes.chatvla2 import address
from mindhand.recipes.proofs import Proof, bench
from mindhand.recipes.proofs.bench import Arm, Bench, build, run_cell
from mindhand.recipes.rollouts import load_policy, rows_of
from mindhand.worlds.cued import CUE, REVERSED
from mindhand.worlds.declared import scene_hash
from mindhand.worlds.desk.world import SPEC

from .tiny_bench import FAST, FLOW, PROTOCOL, QUIET, SHORT, TOKENS, fake, make_home, one_row


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return make_home(tmp_path_factory.mktemp("home"))


@pytest.fixture
def only_fast(monkeypatch):
    monkeypatch.setattr(all_proofs, "proofs", lambda: {"fast": FAST})
    monkeypatch.setattr(all_proofs, "_module", lambda name: bench)


def test_a_proof_is_of_its_method_on_its_base():
    with pytest.raises(BadData, match="its own first"):
        Proof("fast", TOKENS, (Arm("no-bpe", with_fast),))
    with pytest.raises(BadData, match="each once"):
        Proof("fast", TOKENS, (Arm("fast", with_fast), Arm("fast", with_fast)))
    with pytest.raises(BadData, match="the base on its card"):
        Proof("fast", FLOW, (Arm("fast", with_fast),))


@pytest.mark.parametrize("name", all_proofs.proofs())
def test_every_proof_builds_all_its_arms(home, tmp_path, name):
    proof = all_proofs.proofs()[name]
    made = [build(all_proofs.stand(proof, home / "nano", tmp_path), arm, 0) for arm in proof.all]
    assert len(made) >= 2 and proof.trainings >= 3


def test_what_differs_between_arms_is_the_change_alone(home, tmp_path):
    at = bench.Stand(FLOW, home / "nano", tmp_path)
    off, again, on = (build(at, arm, 0) for arm in (Arm("baseline"), Arm("baseline"), Arm("rs_cl", with_rs_cl)))
    other = build(at, Arm("baseline"), 1)
    first = off.state_dict()
    assert all(torch.equal(x, first[n]) for n, x in again.state_dict().items())
    shared = {n: x for n, x in on.state_dict().items() if n in first}
    assert set(shared) == set(first) and all(torch.equal(x, first[n]) for n, x in shared.items())
    assert any(not torch.equal(x, first[n]) for n, x in other.state_dict().items())


def test_a_cell_trains_acts_and_is_not_run_twice(home, tmp_path, monkeypatch):
    at = bench.Stand(TOKENS, home / "nano", tmp_path)
    monkeypatch.setattr(bench, "rows_of", one_row)
    for arm in (Arm("baseline"), Arm("fast", with_fast), Arm("oft", with_oft)):
        run_cell(at, arm, 0, QUIET)
        assert at.done(arm.name, 0) and at.rows(arm.name, 0)[0]["success"] is True
        assert (at.folder(arm.name, 0) / "checkpoint" / "manifest.json").exists()
    assert at.root != bench.Stand(FLOW, home / "nano", tmp_path).root


def test_an_arm_that_wraps_acts_from_the_baselines_checkpoint(home, tmp_path, monkeypatch):
    """Whichever of both comes first trains it; the other finds it there."""
    at, asked, trained = bench.Stand(TOKENS, home / "nano", tmp_path), [], []

    def asking(checkpoint, protocol, folder, wraps, **how):
        asked.append((checkpoint, tuple(wraps)))
        one_row(checkpoint, protocol, folder)

    monkeypatch.setattr(bench, "rows_of", asking)
    for arm in (Arm("flashvla", wrap=with_flash), Arm("baseline")):
        run_cell(at, arm, 0, QUIET)
        assert at.done(arm.name, 0)
        trained.append((at.folder("baseline", 0) / "robot" / "metrics.jsonl").read_text())
    base = at.folder("baseline", 0) / "checkpoint"
    assert asked == [(base, ("flashvla",)), (base, ())] and trained[0] == trained[1]
    given = []
    made = Arm("made", prepare=lambda *what: given.append(what) or with_flash)
    run_cell(at, made, 0, QUIET)  # of the trained policy
    ((vla, where, training),) = given
    assert asked[2] == (base, ("made",)) and (where, training) == (at, 0) and not vla.training
    saved = load_policy(base).state_dict()
    assert all(torch.equal(x, saved[n]) for n, x in vla.state_dict().items() if n in saved)
    assert not (at.folder("flashvla", 0) / "checkpoint").exists()
    with pytest.raises(BadData, match="wraps and changes"):
        Arm("both", with_fast, wrap=with_flash)
    with pytest.raises(BadData, match="wraps and changes"):
        Arm("both", with_fast, prepare=made.prepare)
    with pytest.raises(BadData, match="what makes one"):
        Arm("both", wrap=with_flash, prepare=made.prepare)


def test_rows_of_what_is_wrapped_are_another_policys(tmp_path):
    """And what cannot be wrapped is refused before an episode begins."""
    flash = {"flashvla": partial(wrapped, names=["flashvla"])}
    with pytest.raises(BuildError, match="'flashvla' round Rehearsed"):
        rows_of(Path("expert"), PROTOCOL, tmp_path / "a", workers=1, films=0, wraps=flash)
    rows = rows_of(Path("random"), PROTOCOL, tmp_path / "b", workers=1, films=0, wraps={"same": lambda p: p})
    assert read_json(tmp_path / "b" / "run.json", "a run")["policy"] == "random in same" and len(rows) == 1
    with pytest.raises(BadData, match="random in same"):
        rows_of(Path("random"), PROTOCOL, tmp_path / "b", workers=1, films=0)


def test_records_come_when_every_cell_is_there(home, tmp_path, only_fast):
    nano, run = home / "nano", tmp_path / "run"
    at = all_proofs.stand(FAST, nano, run)
    order = [str(c) for c in all_proofs.due(("fast",), nano, run)]
    assert order[:2] == ["fast/baseline/0", "fast/fast/0"] and len(order) == 6
    for n in range(3):
        fake(at, "baseline", n, 2)
        assert not [*all_proofs.publish(nano, run, tmp_path / "drafts")]
        fake(at, "fast", n, 6 + n)
    found = {r.name: r for r in all_proofs.publish(nano, run, tmp_path / "drafts")}
    assert set(found) == {"proofs/fast/baseline", "proofs/fast/method", "proofs/fast/effect"}
    assert found["proofs/fast/effect"].value == pytest.approx(0.5) and len(found["proofs/fast/effect"].trainings) == 3
    assert found["proofs/fast/method"].value == pytest.approx(0.7)
    assert read_json(tmp_path / "drafts" / "proofs" / "fast.json", "records")["records"]
    assert all_proofs.table(("fast",), nano, run).row_count == 2


def test_what_is_measured_besides_has_records_too(home, tmp_path, monkeypatch):
    told = bench.Measured(
        lambda vla, stand: [], {"cost": ("quotient", "ms/bare", "1"), "error": ("mean", "error", "m")}
    )
    proof = replace(FAST, arms=(Arm("fast", with_fast, measure=told), Arm("less", with_fast, measure=told)))
    monkeypatch.setattr(all_proofs, "proofs", lambda: {"fast": proof})
    monkeypatch.setattr(all_proofs, "_module", lambda name: bench)
    at = all_proofs.stand(proof, home / "nano", tmp_path / "run")
    for n, arm in product(range(3), proof.all):
        fake(at, arm.name, n, 2)
        rows = [{"key": f"k/{i}", "ms": 1.0 + n, "bare": 4.0, "error": 0.1 * i} for i in range(3)]
        write_rows(at.folder(arm.name, n) / bench.MEASURED, rows)
    found = {r.name: r for r in all_proofs.publish(home / "nano", tmp_path / "run", tmp_path / "drafts")}
    for name in ("cost", "control_less_cost"):
        assert found[f"proofs/fast/{name}"].value == pytest.approx(0.5) and found[f"proofs/fast/{name}"].n == 9
    assert found["proofs/fast/error"].value == pytest.approx(0.1) and found["proofs/fast/error"].unit == "m"
    assert "proofs/fast/control_baseline_cost" not in found


def test_other_scores_than_success_are_compared_too(home, tmp_path, monkeypatch):
    """Each with its own difference; where fewer are better the difference is below nothing."""
    proof = replace(FAST, scores=("hit",))
    monkeypatch.setattr(all_proofs, "proofs", lambda: {"fast": proof})
    monkeypatch.setattr(all_proofs, "_module", lambda name: bench)
    at = all_proofs.stand(proof, home / "nano", tmp_path / "run")
    for n, arm in product(range(3), proof.all):
        fake(at, arm.name, n, 2)
        file = at.folder(arm.name, n) / "evaluation" / "rows.jsonl"
        rows = [{**r, "hit": arm.name == "baseline" or i < 5} for i, r in enumerate(read_rows(file))]
        write_rows(file, rows)
    found = {r.name: r for r in all_proofs.publish(home / "nano", tmp_path / "run", tmp_path / "drafts")}
    assert found["proofs/fast/hit"].value == pytest.approx(-0.5) and found["proofs/fast/hit"].kind == "difference"
    assert found["proofs/fast/hit_baseline"].value == 1 and found["proofs/fast/hit_method"].value == 0.5
    assert found["proofs/fast/effect"].value == 0
    assert Claim("fewer hits", "hit", "lower").holds(found["proofs/fast/hit"])


def test_tasks_told_apart_have_records_of_their_own(home, tmp_path, monkeypatch):
    bench_of_two = Bench("tokens", PLACING_CUE.only(episodes=1), **SHORT)
    with pytest.raises(BadData, match="apart as 'hard'"):
        replace(FAST, bench=bench_of_two, apart={"hard": ("spatial_placing/R",)})
    proof = replace(FAST, bench=bench_of_two, apart={"": (REVERSED,), "cue": (CUE,)}, chance=0.2)
    monkeypatch.setattr(all_proofs, "proofs", lambda: {"fast": proof})
    monkeypatch.setattr(all_proofs, "_module", lambda name: bench)
    nano, run = home / "nano", tmp_path / "run"
    at = all_proofs.stand(proof, nano, run)
    for n in range(3):
        fake(at, "baseline", n, 5, 1)
        fake(at, "fast", n, 6, 4)
    found = {r.name.rpartition("/")[2]: r for r in all_proofs.publish(nano, run, tmp_path / "drafts")}
    values = {name: (round(r.value, 3), r.n) for name, r in found.items()}
    assert values == {
        "baseline": (0.1, 30), "method": (0.4, 30), "effect": (0.3, 30),
        "cue_baseline": (0.5, 30), "cue_method": (0.6, 30), "cue_effect": (0.1, 30),
    }  # fmt: skip
    assert all_proofs.table(("fast",), nano, run).row_count == 4
    guessed = {r.name.rpartition("/")[2]: r.chance for r in all_proofs.publish(nano, run, tmp_path / "drafts")}
    assert guessed["method"] == 0.2 and guessed["cue_method"] is None  # chance is of the tasks that decide
    # Where the tasks of the claim are not named, all of them decide it.
    both = replace(proof, apart={"cue": (CUE,)})
    assert len(all_proofs.rows_of(both, at, "fast")) == 60 and len(all_proofs.rows_of(both, at, "fast", "cue")) == 30


def test_a_bench_shows_what_it_is_told_to_and_lies_where_it_lay(home, tmp_path):
    def root(**more):
        return bench.Stand(replace(TOKENS, **more), home / "nano", tmp_path).root

    said = {"base": "tokens", "camera": "front", "horizon": 8, "run": 1, **SHORT}
    where = PROTOCOL.to_json(), asdict(SPEC), scene_hash()
    mind = load_checkpoint(home / "nano", None).fingerprint
    was = tmp_path / address(said, where, asdict(TOKENS.optimiser), mind)
    assert root() == root(shown=PROTOCOL.tasks) == was != root(shown=(CUE,))
    assert replace(TOKENS, shown=(CUE,)).demonstrated == (CUE,) and TOKENS.demonstrated == PROTOCOL.tasks
    with pytest.raises(BadData, match="no one world"):
        replace(TOKENS, shown=("metaworld/reach",))


def test_two_proofs_of_a_bench_share_its_baseline(home, tmp_path, monkeypatch):
    oft = Proof("oft", TOKENS, (Arm("oft", with_oft),), trainings=3)
    monkeypatch.setattr(all_proofs, "proofs", lambda: {"fast": FAST, "oft": oft})
    cells = [*all_proofs.due(("fast", "oft"), home / "nano", tmp_path)]
    assert len(cells) == 9 and sum(c.arm == "baseline" for c in cells) == 3
