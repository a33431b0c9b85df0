"""bfloat16 only where the machine multiplies it."""

import pytest
import torch

from mindhand.core.precision import half
from mindhand.train.muon import orthogonal

CPU = torch.device("cpu")


@pytest.mark.parametrize("able", ["amx_bf16", "avx512_bf16", "sve_bf16"])
def test_a_cpu_with_the_instructions_computes_in_bfloat16(monkeypatch, able):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True, able: True}, raising=False)
    assert half(CPU)


def test_a_cpu_without_them_computes_in_float32(monkeypatch):
    known = {"avx2": True, "avx512_f": True, "avx512_bf16": False, "amx_bf16": False}
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: known, raising=False)
    assert not half(CPU)


def test_a_torch_that_cannot_be_asked_is_taken_for_one_without(monkeypatch):
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert not half(CPU)


def test_what_a_machine_computes_in_is_what_its_updates_are_made_in(monkeypatch):
    g = torch.randn(1, 8, 20, generator=torch.Generator().manual_seed(0))
    found = []
    for able in (False, True):
        monkeypatch.setattr(torch.cpu, "get_capabilities", dict(amx_bf16=able).copy, raising=False)
        found.append(orthogonal(g))
    rounded = [bool((x == x.bfloat16()).all()) for x in found]
    assert rounded == [False, True] and torch.allclose(*found, atol=0.1)
