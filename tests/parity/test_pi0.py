"""Parity with transformers' PI0 on random weights, in the same process: velocities, and whole chunks."""

import json
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from mindhand.core.checkpoint import load_into
from mindhand.core.errors import BadCheckpoint, BuildError
from mindhand.core.keys import Key, Keys
from mindhand.core.nouns import Observation
from mindhand.core.seams import Code, Context, Inputs, Segment, text_position
from mindhand.core.spec import Camera, Part, Spec
from mindhand.model.configs import vlm_config
from mindhand.model.diffusion import ODE
from mindhand.model.import_pi0 import from_pi0
from mindhand.model.imports import import_folder
from mindhand.model.pi0_hand import Pi0Config, Pi0Hand
from mindhand.model.store import load_vla, save_vla
from mindhand.model.tower_hand import TOWER, AddTower
from mindhand.model.vlm import VLM, VLMConfig
from mindhand.model.whole_prompt import WholePrompt

from ..model.tiny import words
from .test_paligemma import CONFIG

transformers = pytest.importorskip("transformers")

HAND = Pi0Config(state=6, action=7, horizon=5, width=24, states=6)
IMAGE = CONFIG.vocabulary - 1
TEXTS = [[5, 6, 7], [12, 13, 14, 15, 16], [18]]
ROWS = len(TEXTS)
ARM = (
    Part("tcp", "position", ("x", "y", "z"), "m", frame="base"),
    Part("gripper", "gripper", ("open",), "1", polarity="open"),
)
SPEC = Spec("tiny", ARM, ARM, (Camera("front", 12, 12, (12, 12)),), 10.0)


def reference(**more):
    """Their class, of the size of `CONFIG` and `HAND`, with random weights."""
    torch.manual_seed(0)
    decoder = dict(
        model_type="gemma", num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=1, head_dim=16
    )  # fmt: skip
    vlm = dict(
        model_type="paligemma",
        text_config=dict(**decoder, vocab_size=CONFIG.vocabulary, hidden_size=32, intermediate_size=48),
        vision_config=dict(
            model_type="siglip_vision_model", hidden_size=24, intermediate_size=40, num_hidden_layers=2,
            num_attention_heads=2, patch_size=4, image_size=12, vision_use_head=False,
        ),
        projection_dim=32, hidden_size=32, image_token_index=IMAGE, vocab_size=CONFIG.vocabulary,
    )  # fmt: skip
    config = transformers.PI0Config(
        vlm_config=vlm, dit_config=dict(**decoder, hidden_size=24, intermediate_size=40), chunk_size=5,
        max_state_dim=6, max_action_dim=7, **more,
    )  # fmt: skip
    theirs = transformers.PI0ForConditionalGeneration(config).eval()
    for p in theirs.parameters():
        torch.nn.init.normal_(p, std=0.2)
    return theirs


@cache
def models() -> tuple[torch.nn.Module, VLM, Pi0Hand]:
    """Theirs; ours with its weights."""
    theirs, mind, hand = reference(), VLM(CONFIG), Pi0Hand(HAND)
    WholePrompt().apply(mind)
    AddTower(TOWER, 24, 40).apply(mind)
    tensors = from_pi0(theirs.state_dict())
    load_into(mind, {n: x for n, x in tensors.items() if not n.startswith("hand.")})
    load_into(hand, {n.removeprefix("hand."): x for n, x in tensors.items() if n.startswith("hand.")})
    return theirs, mind.eval(), hand.eval()


def given(cameras: list[int]) -> dict[str, Tensor]:
    """Pictures of so many cameras a row, texts, states, actions, noise."""
    g = torch.Generator().manual_seed(5)
    most, texts = max(cameras), max(map(len, TEXTS))
    present = torch.arange(most) < torch.tensor(cameras).unsqueeze(1)
    ids = torch.zeros(ROWS, most * 9 + texts, dtype=torch.int64)
    mask = torch.zeros_like(ids)
    for b, (n, text) in enumerate(zip(cameras, TEXTS)):
        row = [IMAGE] * 9 * n + text
        ids[b, : len(row)], mask[b, : len(row)] = torch.tensor(row), 1
    return {
        "images": torch.rand(ROWS, most, 3, 12, 12, generator=g),
        "present": present,
        "ids": ids,
        "mask": mask,
        "state": torch.randn(ROWS, 6, generator=g),
        "noise": torch.randn(ROWS, 5, 7, generator=g),
        "t": torch.tensor([1.0, 0.35, 0.001]),
    }


def told(x: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same as the reference takes it."""
    return {
        "input_ids": x["ids"],
        "attention_mask": x["mask"],
        "pixel_values": x["images"] * 2 - 1,
        "pixel_attention_mask": x["present"],
        "state": x["state"],
    }


def context(mind: VLM, x: dict[str, Tensor]) -> Context:
    """The same as our pass: pictures, then the text, each by its own mask."""
    start: Tensor | int = 0
    segments = []
    for i in range(x["images"].shape[1]):
        seen = mind.see({"it": x["images"][:, i : i + 1]})["it"]
        valid = seen.valid & x["present"][:, i : i + 1]
        place, start = mind.place(seen.grid, valid, start)
        segments.append(Segment(f"image/{i}", seen.x, valid, place))
    valid = torch.arange(5) < torch.tensor([len(t) for t in TEXTS]).unsqueeze(1)
    ids = torch.tensor([t + [0] * (5 - len(t)) for t in TEXTS])
    segments.append(Segment("text", mind.embed(ids), valid, text_position(valid, start)))
    return Context(mind(segments), {}, Inputs({}, {}, x["state"].unsqueeze(1)))


CAMERAS = [[1, 1, 1], [2, 2, 2], [3, 1, 2]]


@pytest.mark.parametrize("cameras", CAMERAS)
def test_velocity(cameras):
    theirs, mind, hand = models()
    x = given(cameras)
    with torch.no_grad():
        want = theirs(**told(x), noise=x["noise"], timestep=x["t"]).logits
        whole = torch.ones(ROWS, 5, dtype=torch.bool)
        got = hand.velocity(hand.prefix(context(mind, x)), x["noise"], x["t"], whole)
    assert want.abs().max() > 0.5 and want.std() > 0.1
    assert (got - want).abs().max() <= 1e-5


@pytest.mark.parametrize("cameras", CAMERAS)
@pytest.mark.parametrize("steps", [3, 10])
def test_a_whole_chunk_of_the_same_noise(cameras, steps):
    theirs, mind, hand = models()
    x = given(cameras)
    with torch.no_grad():
        want = theirs.sample_actions(**told(x), noise=x["noise"], num_steps=steps)
        ctx = context(mind, x)
        how = {} if steps == 10 else {"sampler": ODE(count=steps)}  # ten are what both take by themselves
        drawn = hand.draw(ctx, 1, keys=Keys.seeded(ROWS), noise=x["noise"].unsqueeze(1), **how)
        two = hand.draw(ctx, 2, keys=Keys.seeded(ROWS), noise=x["noise"].unsqueeze(1), **how)
    assert (drawn.value[:, 0] - x["noise"]).abs().max() > 0.5
    assert (drawn.value[:, 0] - want).abs().max() <= 1e-5
    assert (two.value - want.unsqueeze(1)).abs().max() <= 1e-5


def test_gradients_of_the_same_loss():
    theirs, mind, hand = models()
    x = given([2, 2, 2])
    for model in (theirs, mind, hand):
        model.zero_grad()
    actions = torch.randn(ROWS, 5, 7)
    theirs(**told(x), noise=x["noise"], timestep=x["t"], actions=actions).loss.backward()
    noisy = hand.process.at(actions, x["noise"], x["t"])
    whole = torch.ones(ROWS, 5, dtype=torch.bool)
    said = hand.velocity(hand.prefix(context(mind, x)), noisy, x["t"], whole)
    (said - (x["noise"] - actions)).square().mean().backward()

    def grad(p: torch.nn.Parameter) -> Tensor:
        return torch.zeros_like(p) if p.grad is None else p.grad  # what no hand reads of the mind's last layer

    want = from_pi0({n: grad(p) for n, p in theirs.named_parameters()})
    ours = {**dict(mind.named_parameters()), **{f"hand.{n}": p for n, p in hand.named_parameters()}}
    assert sum(bool(grad(p).any()) for p in ours.values()) >= len(ours) - 5
    for name in ours.keys() - {"embedding.weight"}:  # their padding has no gradient
        assert (grad(ours[name]) - want[name]).abs().max() <= 2e-4 * want[name].abs().max(), name


@pytest.mark.parametrize(
    "break_it",
    [
        lambda mind, hand, m: m.setattr(mind, "rule", (("*", "*", "causal"),)),
        lambda mind, hand, m: m.setattr(hand, "config", replace(HAND, longest=5.0)),
        lambda mind, hand, m: m.setattr("mindhand.model.tower_hand.RULE", ()),
    ],
)
def test_parity_is_lost(break_it, monkeypatch):
    theirs, mind, hand = models()
    x = given([2, 2, 2])
    break_it(mind, hand, monkeypatch)
    with torch.no_grad():
        want = theirs(**told(x), noise=x["noise"], timestep=x["t"]).logits
        whole = torch.ones(ROWS, 5, dtype=torch.bool)
        got = hand.velocity(hand.prefix(context(mind, x)), x["noise"], x["t"], whole)
    assert (got - want).abs().max() > 1e-3


def test_a_shorter_state_is_one_that_ends_in_zeros():
    theirs, mind, hand = models()
    x = given([1, 1, 1])
    x["state"][:, 4:] = 0
    short = Pi0Hand(replace(HAND, state=4))
    load_into(short, dict(hand.state_dict()))
    whole = torch.ones(ROWS, 5, dtype=torch.bool)
    with torch.no_grad():
        want = theirs(**told(x), noise=x["noise"], timestep=x["t"]).logits
        ctx = context(mind, {**x, "state": x["state"][:, :4]})
        got = short.velocity(short.prefix(ctx), x["noise"], x["t"], whole)
    assert (got - want).abs().max() <= 1e-5
    with pytest.raises(BuildError, match="1 to 6"):
        Pi0Hand(replace(HAND, state=7))


def test_training_draws_more_of_the_noisy_end():
    hand = models()[2]
    code = Code(torch.randn(4000, 5, 7), torch.ones(4000, 5, dtype=torch.bool))
    noised = hand.corrupt(code, Keys.seeded(4000))
    t = (noised.t - 0.001) / 0.999
    assert noised.t.min() >= 0.001 and noised.t.max() <= 1
    for share in (0.2, 0.5, 0.8):  # of Beta(1.5, 1), P(t < s) = s^1.5
        assert float((t < share).float().mean()) == pytest.approx(share**1.5, abs=0.03)
    noise = noised.target + code.values
    assert torch.allclose(noised.x, noised.t.view(-1, 1, 1) * noise + (1 - noised.t.view(-1, 1, 1)) * code.values)


@pytest.fixture
def folder(tmp_path):
    reference().save_pretrained(tmp_path / "it")
    return tmp_path / "it"


def test_a_folder_loads_as_a_policy(folder):
    theirs, _, hand = models()
    found = import_folder(folder)
    assert found.config == VLMConfig(CONFIG.tower, CONFIG.vocabulary, CONFIG.vision)
    assert found.hand == HAND and found.edits == (WholePrompt(), AddTower(TOWER, 24, 40))
    x = given([2, 2, 2])
    with torch.no_grad():
        want = theirs(**told(x), noise=x["noise"], timestep=x["t"]).logits
        whole = torch.ones(ROWS, 5, dtype=torch.bool)
        got = hand.velocity(hand.prefix(context(found.vlm(), x)), x["noise"], x["t"], whole)
    assert (got - want).abs().max() <= 1e-5
    made = found.vla(SPEC, words())
    for name, p in hand.state_dict().items():
        assert torch.equal(made.expert.state_dict()[name], p), name
    assert made.codec.config.size == 7 and made.expert.config.state == 4


def test_the_policy_acts_trains_and_is_stored(folder, tmp_path):
    made = import_folder(folder).vla(SPEC, words())
    made.codec.load_statistics({"codec": "chunk-1", "low": [-1.0] * 4, "high": [1.0] * 4})
    made.state_scale.load_statistics({"mean": [0.0] * 4, "std": [1.0] * 4})
    rng = np.random.default_rng(0)
    obs = Observation(
        images={"front": rng.integers(0, 255, (2, 1, 12, 12, 3), dtype=np.uint8)},
        state=rng.normal(size=(2, 1, 4)).astype(np.float32),
        text={"instruction": ("pick the tile.", "pick")},
        time=np.zeros((2, 1)),
        keys=tuple(Key("p", "t", i) for i in range(2)),
    )  # fmt: skip
    chunk, _ = made.act(obs, made.start(obs.keys))
    assert chunk.actions.shape == (2, 5, 4) and not chunk.extra["errors"].any()
    ctx, _ = made.think(obs, made.start(obs.keys))
    code = made.codec.encode(torch.from_numpy(chunk.actions), torch.ones(2, 5, dtype=torch.bool), ctx.inputs.state)
    assert code.values.shape == (2, 5, 7) and not code.values[..., 4:].any()
    assert made.expert.loss(ctx, code, Keys.seeded(2))["action"].isfinite().all()
    save_vla(made, tmp_path / "ours", obs)
    again = load_vla(tmp_path / "ours", SPEC)
    assert np.array_equal(again.act(obs, again.start(obs.keys))[0].actions, chunk.actions)
    assert again.backbone.rule == made.backbone.rule
    with pytest.raises(BuildError, match="8 numbers a step"):
        import_folder(folder).vla(replace(SPEC, action=(*ARM, *(replace(p, name=f"{p.name}2") for p in ARM))), words())


@pytest.mark.parametrize(
    ("field", "value", "what"),
    [
        ("dit_config.num_hidden_layers", 3, "but for width and ffn"),
        ("dit_config.rope_parameters", {"rope_type": "default", "rope_theta": 5e4}, "but for width and ffn"),
        ("dit_config.hidden_act", "silu", "hidden_act"),
        ("dit_config.hidden_size", 26, "do not fit"),
        ("max_action_dim", 8, "do not fit"),
        ("max_state_dim", 5, "do not fit"),
        ("num_inference_steps", 5, "num_inference_steps is 5"),
        ("time_sampling_offset", 0.1, "time_sampling_offset"),
        ("vlm_config", None, "no vlm_config"),
    ],
)
def test_a_config_of_another_policy_is_refused(folder, field, value, what):
    data = json.loads((folder / "config.json").read_text())
    at, _, name = field.rpartition(".")
    (data[at] if at else data)[name] = value
    (folder / "config.json").write_text(json.dumps(data))
    with pytest.raises(BadCheckpoint, match=what):
        import_folder(folder).vla(SPEC, words())


def test_names_of_stored_weights(folder):
    """LeRobot's: with "model." before them, and the table of words as the head alone."""
    stored = load_file(folder / "model.safetensors")
    table = next(n for n in stored if n.endswith("embed_tokens.weight"))
    other = {f"model.{n}": x for n, x in stored.items() if n != table}
    other["model.paligemma_with_expert.paligemma.lm_head.weight"] = stored[table]
    save_file(other, folder / "model.safetensors")
    found, want = import_folder(folder).tensors, from_pi0(models()[0].state_dict())
    assert found.keys() == want.keys() and all(torch.equal(found[n], x) for n, x in want.items())
    with pytest.raises(BadCheckpoint, match=r"unknown tensor 'model\.time_mlp_in\.weight'\n.*pi0"):  # pi0.5
        from_pi0({**other, "model.time_mlp_in.weight": torch.zeros(1)})
    with pytest.raises(BadCheckpoint, match="lacks it"):
        replace(import_folder(folder), tensors={n: x for n, x in want.items() if n != "hand.leave.bias"}).vla(
            SPEC, words()
        )


def test_the_published_size():
    with torch.device("meta"):
        config = transformers.PI0Config()
        want = dict(transformers.PI0ForConditionalGeneration(config).named_parameters())
        mind, hand = VLM(vlm_config("paligemma-3b")), Pi0Hand(Pi0Config(state=14))
        AddTower(TOWER, 1024, 4096).apply(mind)
    ours = {n: p.shape for n, p in mind.named_parameters()}
    ours.update((f"hand.{n}", p.shape) for n, p in hand.named_parameters())
    assert ours == {n: p.shape for n, p in from_pi0(want).items()}
    count = sum(p.numel() for m in (mind, hand) for p in m.parameters())
    assert count / 1e9 == pytest.approx(3.238, abs=1e-3)
