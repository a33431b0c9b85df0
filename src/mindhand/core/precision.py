"""Which machines compute in bfloat16. Where it is emulated it is slower than float32, by a factor of seventy where
neither AVX-512 nor AMX knows it (2,048 x 512 by 512 x 512 on one Zen 3 core: 1.2 and 84 GFLOP/s)."""

from __future__ import annotations

import torch

KNOWING = ("amx_bf16", "avx512_bf16", "bf16", "sve_bf16")  # instruction sets of CPUs that multiply bfloat16


def half(device: torch.device) -> bool:
    """Whether products in bfloat16 are worth it on this device. A CPU that cannot be asked (torch before
    `cpu.get_capabilities`) is taken for one that does not."""
    if device.type == "cpu":
        able = getattr(torch.cpu, "get_capabilities", dict)()
        return any(able.get(name) for name in KNOWING)
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return True
