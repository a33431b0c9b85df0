"""Policies in the hub's layout: to a folder, to a hub and back, and what is refused before anything is sent."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from mindhand.core.checkpoint import load_checkpoint
from mindhand.core.errors import BadCheckpoint, Refusal, SpecMismatch
from mindhand.model.codec import ChunkCodec
from mindhand.model.hub import from_pretrained, pretrained_folder, push_to_hub, save_pretrained, weights_folder
from mindhand.model.licence import licence_of
from mindhand.model.store import save_vla
from mindhand.model.vla import VLA
from mindhand.recipes import tiny
from tests.local_hub import local_hub
from tests.model.tiny import expert
from tests.tiny_world import SPEC as OTHER

CARD = "---\nlicense: apache-2.0\n---\n\n# a policy\n"


@pytest.fixture(scope="module")
def policy() -> VLA:
    hand = expert("none", action=tiny.SPEC.action_size, state=tiny.SPEC.state_size, horizon=tiny.HORIZON)
    return tiny.fitted(VLA(spec=tiny.SPEC, backbone=tiny.vlm(), expert=hand, codec=ChunkCodec(tiny.SPEC))).eval()


def acts(vla: VLA) -> np.ndarray:
    obs = tiny.observation()
    return vla.act(obs, vla.start(obs.keys))[0].actions


def test_a_folder_and_back(policy, tmp_path):
    folder = save_pretrained(policy, tmp_path / "it", CARD, licence=b"do as you like\n")
    assert sorted(f.name for f in folder.iterdir()) == ["LICENSE", "README.md", "checkpoint"]
    np.testing.assert_array_equal(acts(from_pretrained(folder)), acts(policy))
    np.testing.assert_array_equal(acts(from_pretrained(folder / "checkpoint", tiny.SPEC)), acts(policy))
    (folder / "README.md").write_text(CARD + "\nmore words\n")  # a card is written on, and the policy stays whole
    from_pretrained(folder)
    with pytest.raises(SpecMismatch, match="tiny-point"):
        from_pretrained(folder, OTHER)


def test_a_checkpoint_is_copied_to_the_byte(policy, tmp_path):
    save_vla(policy, tmp_path / "a", smoke=tiny.observation())
    save_pretrained(tmp_path / "a", tmp_path / "b", CARD)
    was, now = (load_checkpoint(f, None).fingerprint for f in (tmp_path / "a", tmp_path / "b" / "checkpoint"))
    assert was == now


def test_a_card_without_a_licence_leaves_what_is_there(policy, tmp_path):
    folder = save_pretrained(policy, tmp_path / "it", CARD)
    for card in ("", "# a policy\n", "---\nlicense:\n---\n", "---\ntags: [license]\n---\n", "license: mit\n"):
        with pytest.raises(Refusal, match="licence"):
            save_pretrained(policy, folder, card)
    assert (folder / "README.md").read_text() == CARD


def test_pushed_and_pulled(policy, tmp_path, monkeypatch):
    with local_hub() as hub:
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)  # the loopback is no network
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
        folder = save_pretrained(policy, tmp_path / "it", CARD)
        (folder / "notes.txt").write_text("mine alone")
        assert "/commit/" in push_to_hub(folder, "owner/name", token="t", endpoint=hub.address)
        assert hub.private in (True, "private") and hub.files is not None and "notes.txt" not in hub.files
        hub.files["run_me.py"] = b"raise SystemExit('run')"
        got = pretrained_folder("owner/name", endpoint=hub.address)
        np.testing.assert_array_equal(acts(from_pretrained(got)), acts(policy))
        assert not (got.parent / "run_me.py").exists()
        hub.files["checkpoint/config.json"] += b" "
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "another"))
        got = pretrained_folder("owner/name", endpoint=hub.address)
        with pytest.raises(BadCheckpoint, match=r"config\.json"):
            from_pretrained(got)


def test_a_vlm_of_others_comes_without_what_could_run(policy, tmp_path, monkeypatch):
    with local_hub() as hub:
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
        push_to_hub(save_pretrained(policy, tmp_path / "it", CARD), "owner/name", token="t", endpoint=hub.address)
        assert (weights_folder("owner/name", endpoint=hub.address) / "manifest.json").is_file()
        hub.files = {n: b"{}" for n in ("config.json", "model.safetensors", "merges.txt", "modeling.py", "model.bin")}
        hub.files["README.md"] = CARD.encode()
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "another"))
        got = weights_folder("owner/vlm", endpoint=hub.address)
        assert {f.name for f in got.iterdir()} == {"config.json", "model.safetensors", "merges.txt", "README.md"}
        assert licence_of(got).name == "apache-2.0"


def test_nothing_is_sent_that_is_not_whole(policy, tmp_path):
    with local_hub() as hub:
        folder = save_pretrained(policy, tmp_path / "it", CARD)
        with pytest.raises(Refusal, match="owner/name"):
            push_to_hub(folder, "a name", endpoint=hub.address)
        (folder / "README.md").unlink()
        with pytest.raises(Refusal, match="licence"):
            push_to_hub(folder, "owner/name", endpoint=hub.address)
        (folder / "README.md").write_text(CARD)
        next((folder / "checkpoint").glob("weights-*")).unlink()
        with pytest.raises(BadCheckpoint, match="missing"):
            push_to_hub(folder, "owner/name", endpoint=hub.address)
        assert hub.asked == []


def test_a_repository_that_is_not_there(tmp_path, monkeypatch):
    with local_hub() as hub:
        for offline in (True, False):
            monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", offline)
            with pytest.raises(BadCheckpoint, match="cannot be downloaded"):
                pretrained_folder("owner/none", endpoint=hub.address)
            assert bool(hub.asked) != offline
    with pytest.raises(BadCheckpoint, match="no such folder"):
        pretrained_folder(tmp_path / "none")


def test_the_hub_is_not_imported_for_a_folder():
    code = "import sys, mindhand.model.hub; sys.exit('huggingface_hub' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
