"""Parity with transformers' SigLIP vision tower on random weights, in the same process."""

from functools import cache

import pytest
import torch
import torch.nn.functional as F

from mindhand.core.errors import BadData
from mindhand.methods.act.oft import Film
from mindhand.model.gemma import GemmaConfig
from mindhand.model.import_gemma import from_paligemma
from mindhand.model.vision_siglip import SigLIP, SigLIPConfig
from mindhand.model.vlm import VLM, VLMConfig

transformers = pytest.importorskip("transformers")

CONFIG = SigLIPConfig(24, layers=3, heads=2, patch=4, side=3, ffn=40, out=16)


@cache
def models():
    """Theirs, its projector, and ours with its weights."""
    torch.manual_seed(0)
    theirs = transformers.SiglipVisionModel(
        transformers.SiglipVisionConfig(
            hidden_size=24, intermediate_size=40, num_hidden_layers=3, num_attention_heads=2, patch_size=4,
            image_size=12, vision_use_head=False,
        )
    ).eval()  # fmt: skip
    linear = torch.nn.Linear(24, 16)
    for name, p in theirs.named_parameters():
        torch.nn.init.normal_(p, mean=name.endswith("norm.weight"), std=0.3)
    named = {f"vision_tower.{n}": x for n, x in theirs.state_dict().items()}
    named.update((f"multi_modal_projector.linear.{n}", x) for n, x in linear.state_dict().items())
    ours = SigLIP(CONFIG).eval()
    ours.load_state_dict({n.removeprefix("vision."): x for n, x in from_paligemma(named).items()})
    return theirs, linear, ours


@pytest.mark.parametrize("frames", [1, 3])
def test_tokens_of_pictures(frames):
    theirs, linear, ours = models()
    image = torch.rand(2, frames, 3, 12, 12)
    with torch.no_grad():
        want = linear(theirs((image.flatten(0, 1) - 0.5) / 0.5).last_hidden_state).reshape(2, frames * 9, 16)
        got = ours(image)
    assert got.grid == (frames, 3, 3) and got.valid.all() and got.valid.shape == (2, frames * 9)
    assert want.abs().max() > 1
    assert (got.x - want).abs().max() <= 1e-5


def test_parity_is_lost_without_positions_and_with_another_gelu(monkeypatch):
    theirs, linear, ours = models()
    image = torch.rand(2, 1, 3, 12, 12)
    with torch.no_grad():
        want = linear(theirs(image[:, 0] * 2 - 1).last_hidden_state)
        turned = image.transpose(-1, -2)
        assert (ours(turned).x - want).abs().max() > 0.1
        held = ours.place.weight.clone()
        ours.place.weight.zero_()
        assert (ours(image).x - want).abs().max() > 0.1
        ours.place.weight.copy_(held)
        gelu = F.gelu
        monkeypatch.setattr(F, "gelu", lambda x, **_: gelu(x))
        assert (ours(image).x - want).abs().max() > 1e-5


def test_gradients():
    theirs, linear, ours = models()
    image = torch.rand(2, 1, 3, 12, 12)
    theirs.zero_grad(), linear.zero_grad(), ours.zero_grad()
    linear(theirs(image[:, 0] * 2 - 1).last_hidden_state).square().mean().backward()
    ours(image).x.square().mean().backward()
    named = {f"vision_tower.{n}": p.grad for n, p in theirs.named_parameters()}
    named.update((f"multi_modal_projector.linear.{n}", p.grad) for n, p in linear.named_parameters())
    want = from_paligemma(named)
    for name, p in ours.named_parameters():
        grad = want[f"vision.{name}"]
        assert (p.grad - grad).abs().max() <= 2e-4 * grad.abs().max(), name


@pytest.mark.parametrize("size", [(12, 16), (8, 8), (24, 24)])
def test_pictures_of_another_size_are_refused(size):
    with pytest.raises(BadData, match="12x12"):
        models()[2](torch.zeros(1, 1, 3, *size))


def test_it_is_looked_through_by_what_is_asked():
    model = VLM(VLMConfig(GemmaConfig(16, 1, 2, 1, 8, 16), 9, CONFIG))
    Film().apply(model)
    image, about = torch.rand(2, 1, 3, 12, 12), torch.randn(2, 16)
    for block in model.vision.blocks:
        torch.nn.init.normal_(block.middle.tell.weight)
    seen, other = (model.see({"front": image}, x)["front"].x for x in (about, -about))
    assert (seen - other).abs().max() > 1e-3
