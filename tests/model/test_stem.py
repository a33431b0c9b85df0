"""A stem that is given more layers."""

from __future__ import annotations

import re

import torch

from mindhand.model.vision import Stem, StemConfig

PLAIN = StemConfig(channels=(8, 8, 16, 16), out=16)
DEEPER = StemConfig(channels=(8, 8, 16, 16), out=16, blocks=(0, 1, 2, 0))


def test_blocks_change_nothing_until_they_learn_and_then_all_of_them_do():
    torch.manual_seed(0)
    plain, deeper = Stem(PLAIN), Stem(DEEPER)
    there = iter(plain.state_dict().values())  # in their order, apart from what is new
    own = deeper.state_dict()
    new = {n for n in own if re.search(r"\.(norm|enter|leave)\.", n)}
    deeper.load_state_dict({n: own[n] if n in new else next(there) for n in own})
    assert len(new) == 3 * 6 and next(there, None) is None
    x = torch.rand(2, 1, 3, 32, 32)
    assert torch.equal(plain(x).x, deeper(x).x)
    learn = torch.optim.SGD(deeper.parameters(), 0.1)
    before = {n: p.clone() for n, p in deeper.named_parameters() if n in new}
    for _ in range(2):  # the second convolution first, then what stands before it
        learn.zero_grad()
        deeper(x).x.square().mean().backward()
        learn.step()
    assert not torch.equal(plain(x).x, deeper(x).x)
    assert all(not torch.equal(p, before[n]) for n, p in deeper.named_parameters() if n in new)
