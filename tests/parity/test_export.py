"""Back into transformers' layout: their class loads what was written, whole, and computes the same."""

import pytest
import torch

from mindhand.core.errors import BuildError
from mindhand.model import export
from mindhand.model.export import export_folder
from mindhand.model.ffn_edits import Widen
from mindhand.model.imports import import_folder
from mindhand.model.low_rank import LoRA
from mindhand.model.moe import Upcycle
from mindhand.model.words import SAY

from ..model.tiny import vlm
from .test_import_folder import made
from .test_tokenizers import root  # noqa: F401, a fixture

transformers = pytest.importorskip("transformers")
KINDS = {"qwen2": "AutoModelForCausalLM", "qwen2_vl": "AutoModelForImageTextToText"}
KINDS["qwen2_5_vl"] = KINDS["qwen2_vl"]
IDS = torch.randint(5, 50, (2, 7), generator=torch.Generator().manual_seed(0))


def imported(kind, tmp_path):
    made(kind).save_pretrained(tmp_path / "theirs")
    return import_folder(tmp_path / "theirs").vlm()


def loaded(kind, folder):
    model, report = getattr(transformers, KINDS[kind]).from_pretrained(folder, output_loading_info=True)
    assert not any(report[k] for k in ("missing_keys", "unexpected_keys", "mismatched_keys")), report
    return model.eval()


@torch.no_grad()
def ours_and_theirs(ours, theirs):
    got = ours.logits(ours([ours.text("text", IDS, torch.ones_like(IDS, dtype=torch.bool))]).hidden["text"])
    return got, theirs(input_ids=IDS).logits


@pytest.mark.parametrize("edit", ["none", "a weight", "lora"])
@pytest.mark.parametrize("kind", KINDS)
def test_their_class_computes_the_same(kind, edit, tmp_path, monkeypatch):
    ours = imported(kind, tmp_path)
    if edit == "a weight":
        with torch.no_grad():
            ours.towers["vlm"].layers[1].ffn.gate_up.weight[:48].mul_(3)
    if edit == "lora":
        LoRA(rank=2).apply(ours)
        for name, p in ours.named_parameters():
            if "low_out" in name:
                torch.nn.init.normal_(p)
        monkeypatch.setattr(export, "SHARD", 20_000)
    export_folder(ours, tmp_path / "ours")
    assert (len(list((tmp_path / "ours").glob("*.safetensors"))) > 1) == (edit == "lora")
    again, before = loaded(kind, tmp_path / "ours"), made(kind).eval()
    got, want = ours_and_theirs(ours, again)
    assert (got - want).abs().max() <= 1e-4
    assert ((got - ours_and_theirs(ours, before)[1]).abs().max() > 1e-3) == (edit != "none")
    if edit == "none":  # the eyes too, and an output head of its own
        state = again.state_dict()
        assert all(torch.equal(state[n], x) for n, x in before.state_dict().items())
        assert import_folder(tmp_path / "ours").config == ours.config


def test_the_tokenizer_goes_with_it(root, tmp_path):  # noqa: F811
    ours = import_folder(root / "merges").vlm()
    (new,) = ours.add_words(["<grip>"])
    export_folder(ours, tmp_path / "ours")
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "ours")
    text = "<grip> déjà\n12 猫<|im_end|>"
    assert theirs(text, add_special_tokens=False)["input_ids"] == ours.words.encode(text) and theirs.eos_token_id
    again = import_folder(tmp_path / "ours").vlm()
    assert again.words.id("<grip>") == new and again.words.cue(SAY) == ours.words.cue(SAY)


@pytest.mark.parametrize("edit", [Upcycle(), Widen()], ids=["a mixture", "a wider FFN"])
def test_what_has_no_place_is_refused(edit, tmp_path):
    ours = imported("qwen2", tmp_path)
    edit.apply(ours)
    with pytest.raises(BuildError, match="ffn"):
        export_folder(ours, tmp_path / "ours")
    assert not (tmp_path / "ours").exists()


def test_other_models_and_more_towers_are_refused(tmp_path):
    ours = imported("qwen2_vl", tmp_path)
    ours.add_tower("hand", ours.config.tower)
    with pytest.raises(BuildError, match="hand"):
        export_folder(ours, tmp_path / "ours")
    with pytest.raises(BuildError, match="StemConfig"):
        export_folder(vlm(), tmp_path / "ours")
