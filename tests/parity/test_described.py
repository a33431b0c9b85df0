"""What is described without weights has the shapes of what is loaded, and takes no memory."""

import pytest
import torch

from mindhand.core.checkpoint import load_checkpoint
from mindhand.core.errors import BadCheckpoint
from mindhand.core.parts import apply_edits
from mindhand.model.described import described_folder, described_vla
from mindhand.model.imports import import_folder
from mindhand.model.shipped import POLICY, shipped
from mindhand.model.store import load_vla
from mindhand.model.vlm import VLM

from .test_import_folder import FAMILIES, config, folder, saved

__all__ = ["folder", "saved"]  # fixtures


@pytest.mark.parametrize("kind", FAMILIES)
def test_a_folder_is_described_as_it_loads(saved, kind):
    whole, shapes = import_folder(saved / kind), described_folder(saved / kind)
    assert shapes.config == whole.config and [type(e) for e in shapes.edits] == [type(e) for e in whole.edits]
    with torch.device("meta"):
        made = VLM(shapes.config)
        apply_edits(made, shapes.edits)
    assert all(x.is_meta for x in made.parameters())
    assert {n: x.shape for n, x in made.state_dict().items()} == {n: x.shape for n, x in whole.tensors.items()}


def test_a_checkpoint_is_described_as_it_loads():
    found = load_checkpoint(shipped(POLICY), None)
    made, loaded = described_vla(found), load_vla(shipped(POLICY))
    assert all(x.is_meta for x in made.parameters()) and made.see == loaded.see
    assert {n: x.shape for n, x in made.state_dict().items()} == {n: x.shape for n, x in loaded.state_dict().items()}


def test_a_missing_shard_and_an_unknown_kind_are_refused(folder):
    sorted(folder.glob("*.safetensors"))[-1].unlink()
    with pytest.raises(BadCheckpoint, match="missing"):
        described_folder(folder)
    config(folder, model_type="llama")
    with pytest.raises(BadCheckpoint, match="'llama'"):
        described_folder(folder)
