"""What methods need of the trunk besides masks and caches: passes that go on, towers, replacements, sites."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from mindhand.core.errors import BuildError
from mindhand.core.keys import Keys
from mindhand.core.seams import Code, Context, Inputs, Segment, StreamOut, grid_position, text_position
from mindhand.model.expert import two_means
from mindhand.model.norm import RMSNorm
from mindhand.model.trunk import TowerConfig
from mindhand.model.vision import ViT, ViTConfig
from mindhand.model.vlm import VLM, VLMConfig

from ..methods.test_depthvla import MASK
from ..methods.test_depthvla import world as depth_world
from ..model.tiny import expert, segments, vlm, words
from .build import close, observation, vla
from .test_clare import world


def run_of(name: str, n: int, start: int, rows: int = 2) -> Segment:
    valid = torch.ones(rows, n, dtype=torch.bool)
    return Segment(name, torch.randn(rows, n, 32), valid, text_position(valid, start))


def test_the_heart_s_hand_beside_a_second_tower():
    """A depth tower in the trunk, DepthVLA's, and the hand that comes with the VLA."""
    model, mind, depth, _, _ = depth_world()
    hand = expert()
    trunk = model([*mind, depth], rule=MASK)
    noised = hand.corrupt(Code(torch.zeros(2, 4, 3), torch.ones(2, 4, dtype=torch.bool)), Keys.seeded(2))
    assert hand.predict(Context(trunk, {}, Inputs({}, {}, torch.ones(2, 1, 5))), noised).shape == (2, 4, 3)


def test_a_pass_goes_on_by_the_rule_it_began_with():
    model, mind, depth, _, _ = depth_world()
    with torch.no_grad():
        blind = model(mind[:2]).extend([mind[2]]).hidden["reasoning"]
        close(model([*mind[:2], depth], rule=MASK).extend([mind[2]]).hidden["reasoning"], blind)


def test_kept_layers_of_a_continued_segment_are_joined():
    model = vlm()
    trunk = model([run_of("text", 5, 0)], want=(1,)).extend([run_of("text", 1, 5)], want=(1,))
    assert trunk.layer(1, "text").shape == trunk.hidden["text"].shape


def test_a_fork_keeps_the_queries():
    model = vlm()
    assert 1 in model(segments(model)[0], want=(1,)).fork(2).queries


def test_a_continued_segment_can_be_pruned_at_many_layers():
    torch.manual_seed(0)
    model = VLM(VLMConfig(TowerConfig(32, 24, 4, 2, 8, 32, theta=1e4, sections=(2, 1, 1)), 9))
    rng, junk = random.Random(0), []

    def keep(l: int, name: str, attention: Tensor) -> Tensor:
        junk.extend(torch.zeros(1) for _ in range(rng.randrange(6)))
        if rng.random() < 0.5:
            junk.clear()
        return torch.arange(attention.shape[1] - 1).expand(1, -1)

    with torch.no_grad():
        for _ in range(60):
            trunk = model([run_of("text", 5, 0, 1)]).extend([run_of("text", 30, 5, 1)], keep=keep)
            assert all(layer[0].k.shape[2] == layer[0].valid.shape[1] for layer in trunk.cache)


def test_a_continued_segment_can_be_hidden():
    past = vlm()([run_of("text", 5, 0), run_of("reasoning", 3, 5)])
    more = [run_of("reasoning", 2, 8), run_of("action", 2, 10)]
    past.extend(more, hide={"reasoning": torch.zeros(2, 5, dtype=torch.bool)})


def test_the_first_segment_may_be_empty():
    vlm()([run_of("latent", 0, 0), run_of("text", 3, 0)])


def test_an_ffn_that_looks_at_its_row_can_leave_padding_out():
    """CLARE routes a sample by the mean over its tokens; junk behind `valid` must not route it elsewhere."""
    model, _, tasks = world(2)
    s, junk = tasks[0].tokens(99), [tasks[1].tokens(i).x for i in range(20)]
    wide = replace(
        s,
        x=torch.cat([s.x, *junk], 1),
        valid=torch.cat([s.valid, *[torch.zeros_like(s.valid)] * 20], 1),
        position=torch.cat([s.position] * 21, 1),
    )
    with torch.no_grad():
        close(model([wide]).hidden["text"][:, : s.x.shape[1]], model([s]).hidden["text"])


def test_norms_in_double_precision():
    x = torch.randn(2, 8, dtype=torch.float64)
    RMSNorm(8, 1e-6).double()(x)


def test_every_block_has_the_promised_sites():
    names = {n for n, m in expert().blocks[0].named_modules() if isinstance(m, nn.Identity)}
    assert {"attn.out", "out"} <= {n.replace("_", ".") for n in names}


def test_new_words_in_a_padded_vocabulary():
    w = words()
    torch.manual_seed(0)
    model = VLM(VLMConfig(TowerConfig(32, 2, 4, 2, 8, 64, sections=(2, 1, 1)), len(w) + 8), w)
    mean = model.embedding.weight[: len(w)].mean(0)
    close(model.embedding.weight[model.add_words(["<new>"])[0]], mean, 1e-3)


def test_only_the_language_tower_is_pooled():
    """What another tower says moves neither mean, whatever its width."""
    model, mind, depth, _, _ = depth_world()
    a, b = (two_means(model(s, rule=MASK)) for s in ([*mind, depth], [*mind, replace(depth, x=depth.x + 1)]))
    assert torch.equal(a[0], b[0]) and torch.equal(a[1], b[1])
    moved = two_means(model([replace(mind[0], x=mind[0].x + 1), *mind[1:]], rule=MASK))
    assert (a[0] - moved[0]).abs().max() > 1e-3


def test_a_segment_goes_on_in_its_tower():
    model, mind, depth, _, _ = depth_world()
    trunk = model([*mind, depth], rule=MASK)
    assert trunk.tower == {**{s.name: "vlm" for s in mind}, "depth": "depth"}
    with pytest.raises(BuildError, match="another tower"):
        trunk.extend([replace(mind[1], name="depth")])


def test_a_view_shows_some_segments_alone():
    """To who reads, and to who extends: what was left out is not attended to; detached, nothing flows back."""
    model = vlm()
    segs = [replace(s, x=s.x.detach().requires_grad_()) for s in segments(model)[0]]
    whole = model(segs, want=(0,))
    view = whole.only(["text"])
    assert list(view.hidden) == list(view.valid) == list(view.tower) == list(view.states[0]) == ["text"]
    assert all([e.name for e in layer] == ["text"] for layer in view.cache)
    more = run_of("action", 2, 40)
    blind = whole.extend([more], rule=(("action", "action", "causal"), ("action", "text", "full"), ("*", "*", "none")))
    close(view.extend([more]).hidden["action"], blind.hidden["action"])
    assert (view.extend([more]).hidden["action"] - whole.extend([more]).hidden["action"]).abs().max() > 1e-3
    assert torch.autograd.grad(view.hidden["text"].sum(), segs[1].x, retain_graph=True)[0].any()
    still = whole.only(["text"], detach=True)
    assert not still.hidden["text"].requires_grad and still.extend([more]).hidden["action"].grad_fn is not None
    loss = still.extend([more]).hidden["action"].sum() + still.layer(0, "text").sum()
    assert torch.autograd.grad(loss, segs[1].x, allow_unused=True)[0] is None
    with pytest.raises(BuildError, match="depth"):
        whole.only(["depth"])


def test_survivors_of_a_continued_segment_count_on():
    """`kept` names tokens of the whole segment, whichever of its passes was pruned."""
    model, first, second = vlm(), torch.tensor([[0, 2], [1, 3]]), torch.tensor([[1], [0]])

    def keep(index: Tensor):
        return lambda l, name, attention: index if l == 0 else None

    begin, more = run_of("text", 5, 0), run_of("text", 2, 5)
    both = model([begin], keep=keep(first)).extend([more], keep=keep(second))
    assert both.kept["text"].tolist() == [[0, 2, 6], [1, 3, 5]] and both.hidden["text"].shape[1] == 3
    assert model([begin], keep=keep(first)).extend([more]).kept["text"].tolist() == [[0, 2, 5, 6], [1, 3, 5, 6]]
    assert model([begin]).extend([more], keep=keep(second)).kept["text"].tolist() == [
        [0, 1, 2, 3, 4, 6],
        [0, 1, 2, 3, 4, 5],
    ]


def test_what_is_hidden_of_a_continued_segment():
    """Flags of its tokens in the prefix and of the new ones: each hides its own token, in its own row."""
    model = vlm()
    past, more = model([run_of("text", 5, 0), run_of("reasoning", 3, 5)]), run_of("reasoning", 2, 8)
    action = run_of("action", 2, 10)
    plain = past.extend([more, action]).hidden["action"]
    for token in range(5):
        flags = torch.zeros(2, 5, dtype=torch.bool)
        flags[0, token] = True
        seen = past.extend([more, action], hide={"reasoning": flags}).hidden["action"]
        assert (seen[0] - plain[0]).abs().max() > 1e-4 and torch.equal(seen[1], plain[1])
    with pytest.raises(BuildError, match="hide"):
        past.extend([more, action], hide={"reasoning": torch.zeros(2, 2, dtype=torch.bool)})


@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize("rule", [None, (("latent", "*", "full-stop"), ("*", "*", "causal"))])
def test_an_empty_segment_is_no_segment(place, rule):
    """Wherever it stands, with a softmax of its own or not; and it can be gone on with."""
    model = vlm()
    runs = [run_of("text", 3, 0), run_of("reasoning", 2, 3)]
    some = [*runs[:place], run_of("latent", 0, 0), *runs[place:]]
    trunk, plain = model(some, rule=rule), model(runs)
    for name, x in plain.hidden.items():
        close(trunk.hidden[name], x)
    assert trunk.hidden["latent"].shape == (2, 0, 32) and torch.equal(trunk.end, plain.end)
    sum(x.sum() for x in trunk.hidden.values()).backward()
    assert trunk.extend([run_of("latent", 2, 5)]).hidden["latent"].shape == (2, 2, 32)


def test_norms_in_double_precision_have_the_gradient_of_their_formula():
    x = torch.randn(3, 8, dtype=torch.float64, requires_grad=True)
    norm = RMSNorm(8, 1e-6).double()
    assert torch.autograd.gradcheck(norm, (x,))


def test_sites_of_a_vit_block():
    tower = ViT(ViTConfig(width=16, layers=1, heads=2, patch=4, merge=1, out=8))
    image = torch.rand(1, 1, 3, 8, 8)
    before = tower(image).x
    for site in ("attn_out", "inner"):
        hook = getattr(tower.blocks[0], site).register_forward_hook(lambda m, i, o: o * 0)
        assert (tower(image).x - before).abs().max() > 1e-4
        hook.remove()


class Both(nn.Module):
    """Stream to the trunk that does all the seeing: a picture's cells with something of the stream's own added."""

    feeds = "trunk"

    def __init__(self, of: VLM):
        super().__init__()
        self.of, self.add = (of,), nn.Parameter(torch.zeros(of.width))

    def start(self, rows):
        return {}

    def forward(self, inputs, trunk, state):
        seen = self.of[0].see({"front": inputs.pixels["front"]})["front"]
        place = grid_position(len(seen.x), seen.grid)
        return StreamOut((Segment("image/front", seen.x + self.add, seen.valid, place),), state)


def test_a_stream_may_do_the_seeing():
    """What is fused cell by cell with more than a picture (stereo, points, time) stands where the picture would."""
    base, obs = vla(), observation()
    seen = vla(streams=[Both(base.backbone)], see=(), backbone=base.backbone)
    pictures, asked = obs.images["front"][:, -1], [["pick"], ["what?"]]
    a, b = (m.look(pictures) for m in (base, seen))
    assert list(a.hidden) == list(b.hidden) == ["image/front"] and torch.equal(a.end, b.end)
    close(a.hidden["image/front"], b.hidden["image/front"])
    assert base.answer(pictures, asked) == seen.answer(pictures, asked)
    nn.init.ones_(seen.streams[0].add)
    assert not torch.equal(seen.look(pictures).hidden["image/front"], a.hidden["image/front"])
