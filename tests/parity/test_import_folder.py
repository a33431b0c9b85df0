"""Folders as transformers writes them: what loads is what was saved; whatever is wrong with one is refused."""

import json
import shutil
from functools import cache

import pytest
import torch
from safetensors.torch import load_file, save_file

from mindhand.core.errors import BadCheckpoint
from mindhand.model import imports
from mindhand.model.imports import import_folder
from mindhand.model.untied import Untied
from mindhand.model.whole_prompt import WholePrompt

from .test_paligemma import CONFIG, W, reference

transformers = pytest.importorskip("transformers")
FAMILIES = [kind for kind in imports.FAMILIES if kind != "pi0"]  # a policy, in `test_pi0`
SMALL = dict(
    vocab_size=60, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, rms_norm_eps=1e-6,
)  # fmt: skip
ROPE = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [2, 1, 1]}


@cache
def made(kind: str):
    """A tiny model of theirs."""
    if kind == "paligemma":
        return reference()
    t = transformers
    torch.manual_seed(1)
    if kind == "gemma":
        return t.GemmaForCausalLM(t.GemmaConfig(**SMALL, head_dim=16))
    if kind == "qwen2":
        return t.Qwen2ForCausalLM(t.Qwen2Config(**SMALL, rope_parameters={**ROPE}, tie_word_embeddings=False))
    text = {**SMALL, "rope_parameters": ROPE}
    eyes = dict(depth=2, num_heads=2, patch_size=4)
    if kind == "qwen2_vl":
        eyes = dict(**eyes, embed_dim=16, hidden_size=32, mlp_ratio=2)
        config = t.Qwen2VLConfig(text_config=text, vision_config=eyes, tie_word_embeddings=True)
        return t.Qwen2VLForConditionalGeneration(config)
    eyes = dict(**eyes, hidden_size=16, intermediate_size=24, out_hidden_size=32, window_size=16)
    config = t.Qwen2_5_VLConfig(
        text_config=text, vision_config=dict(**eyes, fullatt_block_indexes=[1]), tie_word_embeddings=True
    )
    return t.Qwen2_5_VLForConditionalGeneration(config)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Folders by model_type; of PaliGemma in several shards."""
    root = tmp_path_factory.mktemp("theirs")
    for kind in FAMILIES:
        made(kind).save_pretrained(root / kind, max_shard_size="40KB" if kind == "paligemma" else "5GB")
    return root


@pytest.fixture
def folder(saved, tmp_path):
    """PaliGemma's, to be broken."""
    shutil.copytree(saved / "paligemma", tmp_path / "it")
    return tmp_path / "it"


@pytest.mark.parametrize("kind", FAMILIES)
def test_what_loads_is_what_was_saved(saved, kind):
    theirs, found = made(kind).eval(), import_folder(saved / kind)
    ours = found.vlm()
    ids = torch.randint(5, 50, (2, 7))
    valid = torch.ones_like(ids, dtype=torch.bool)
    given = {"token_type_ids": torch.zeros_like(ids)} if kind == "paligemma" else {}
    with torch.no_grad():
        want = theirs(input_ids=ids, **given).logits
        got = ours.logits(ours([ours.text("text", ids, valid)]).hidden["text"])
    assert (got - want).abs().max() <= 1e-5 * max(1, want.abs().max())
    assert len(list((saved / kind).glob("*.safetensors"))) == (4 if kind == "paligemma" else 1)
    assert [type(e) for e in found.edits] == {"paligemma": [WholePrompt], "qwen2": [Untied]}.get(kind, [])
    if kind == "paligemma":
        assert found.config == CONFIG and found.vlm(W).words is W


def config(folder, **changes):
    """Change fields of config.json; "text.x" is a field of its text_config. None takes one out."""
    path = folder / "config.json"
    data = json.loads(path.read_text())
    for name, value in changes.items():
        at, _, field = name.rpartition("__")
        part = data[f"{at}_config"] if at else data
        part.pop(field) if value is None else part.update({field: value})
    path.write_text(json.dumps(data))


@pytest.mark.parametrize("kind", ["llama", "qwen3_vl", "gemma2", None])
def test_an_unknown_model_type_is_told_what_is_known(folder, kind):
    config(folder, model_type=kind)
    with pytest.raises(BadCheckpoint, match=rf"model_type {kind!r}") as told:
        import_folder(folder)
    assert all(repr(name) in told.value.expected for name in imports.FAMILIES)


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"text__model_type": "gemma2"}, "model_type is 'gemma2'"),  # PaliGemma 2
        ({"text__hidden_act": "silu"}, "hidden_act"),
        ({"text__attention_bias": True}, "attention_bias"),
        ({"text__use_bidirectional_attention": False}, "use_bidirectional_attention"),
        ({"text__rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4}}, "rope_type is 'yarn'"),
        ({"text__hidden_size": None}, "no hidden_size"),
        ({"text__hidden_size": "32"}, "hidden_size is '32'"),
        ({"text__num_hidden_layers": 0}, "num_hidden_layers is 0"),
        ({"vision__image_size": 13}, "13 pixels in patches of 4"),
        ({"projection_dim": 8, "vision__projection_dim": 8}, "projected to|8"),
        ({"vision_config": None}, "no vision_config"),
    ],
)
def test_a_config_that_means_another_model_is_refused(folder, changes, what):
    config(folder, **changes)
    with pytest.raises(BadCheckpoint, match=what):
        import_folder(folder).vlm()


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"text__head_dim": 8}, "do not fit"),
        ({"text__num_hidden_layers": 3}, "lacks it"),
        ({"text__num_hidden_layers": 1}, "no such place"),
        ({"text__intermediate_size": 40}, "do not fit"),
        ({"vision__image_size": 16}, "do not fit"),
    ],
)
def test_a_config_of_another_size_is_refused(folder, changes, what):
    config(folder, **changes)
    with pytest.raises(BadCheckpoint, match=what):
        import_folder(folder).vlm()


def last(folder):
    return max(folder.glob("*.safetensors"))


def edited(folder, change):
    path = last(folder)
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)


BREAKS = {
    "is missing": (lambda f: last(f).unlink(), "00004-of-00004.safetensors'] are missing"),
    "is cut off": (lambda f: last(f).write_bytes(last(f).read_bytes()[:-9]), "cannot be read"),
    "lacks a tensor": (lambda f: edited(f, lambda t: t.pop(min(t))), "alone"),
    "has one too many": (lambda f: edited(f, lambda t: t.update(more=torch.zeros(2))), "alone"),
    "is quantized": (lambda f: edited(f, lambda t: t.update({min(t): torch.zeros(3, dtype=torch.int8)})), "int8"),
    "is float8": (lambda f: edited(f, lambda t: t.update({min(t): t[min(t)].to(torch.float8_e4m3fn)})), "float8"),
    "lacks the index": (lambda f: (f / "model.safetensors.index.json").unlink(), "no weights to read"),
    "has a stale whole": (lambda f: shutil.copy(last(f), f / "model.safetensors"), "beside"),
    "has an index without a map": (lambda f: (f / "model.safetensors.index.json").write_text("{}"), "weight_map"),
    "has an index elsewhere": (
        lambda f: (f / "model.safetensors.index.json").write_text('{"weight_map": {"a": "../a"}}'), "weight_map",
    ),
    "has no config": (lambda f: (f / "config.json").unlink(), "config.json"),
    "has half a config": (lambda f: (f / "config.json").write_text("{"), "config.json"),
    "is not there": (shutil.rmtree, "config.json"),
}  # fmt: skip


@pytest.mark.parametrize("name", BREAKS)
def test_a_folder_that_is_refused(folder, name):
    breaks, what = BREAKS[name]
    breaks(folder)
    with pytest.raises(BadCheckpoint, match=what.replace("[", r"\[").replace("]", r"\]")):
        import_folder(folder)


def renamed(folder, old: str, new: str):
    """One tensor under another name, in shard and index alike."""
    index = folder / "model.safetensors.index.json"
    data = json.loads(index.read_text())
    name = next(n for n in sorted(data["weight_map"]) if old in n)
    path = folder / data["weight_map"][name]
    tensors = load_file(path)
    tensors[name.replace(old, new)] = tensors.pop(name)
    save_file(tensors, path)
    data["weight_map"][name.replace(old, new)] = data["weight_map"].pop(name)
    index.write_text(json.dumps(data))


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ("q_proj", "query", "unknown tensor"),
        ("down_proj", "up_proj_2", "unknown tensor"),
        ("layers.1.input_layernorm", "layers.2.input_layernorm", "no such place"),
        ("layers.1.mlp.gate_proj", "layers.2.mlp.gate_proj", "misses"),
    ],
)
def test_a_mismatched_name_is_refused(folder, old, new, what):
    renamed(folder, old, new)
    with pytest.raises(BadCheckpoint, match=what):
        import_folder(folder).vlm()


def test_a_head_of_its_own_where_the_config_says_that_there_is_none(saved, tmp_path):
    shutil.copytree(saved / "qwen2", tmp_path / "it")
    config(tmp_path / "it", tie_word_embeddings=True)
    with pytest.raises(BadCheckpoint, match="tie_word_embeddings is True"):
        import_folder(tmp_path / "it")


def test_weights_in_bfloat16_become_float32(folder):
    for path in folder.glob("*.safetensors"):
        save_file({n: x.bfloat16() for n, x in load_file(path).items()}, path)
    ours = import_folder(folder).vlm()
    assert {p.dtype for p in ours.parameters()} == {torch.float32}
    want = reference().model.language_model.norm.weight
    assert torch.equal(ours.towers["vlm"].norm.weight, want.bfloat16().float())
