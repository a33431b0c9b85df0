"""A model in shares: each process holds a part of every parameter, gradient and moment (FSDP2).

    with meet():                        # torchrun --nproc-per-node 8 ...
        vla = shard(recompute(vla))     # fitted to its data before; the optimiser's moments follow
        train_stage(vla, stage, folder)
        weights = gathered(vla)         # whole again, in every process

A parameter is gathered when its layer is called and let go behind it. Layers of their own are what holds most of it and
is called as a module: an FFN with all its experts, a projection of attention, a block of an eye or of a hand; whatever
else there is comes with the whole. A loss must touch the same parts in every process, or the others wait for ever: give
each the same kinds of row.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.utils.checkpoint import checkpoint

from mindhand.core.errors import BadCheckpoint
from mindhand.core.folder import being_replaced, replacing_folder
from mindhand.model.trunk import Block

from .ranks import rank, ranks

WHERE = "where.json"  # of a folder of shares: what is no tensor, written last
VIEW = r"FSDP2-wrapped module .* returned a view"  # which nobody here writes to


def layers(vla: nn.Module) -> Iterator[nn.Module]:
    """What is gathered, or computed anew, for itself: none lies in another."""
    inside: list[str] = []
    for name, module in vla.named_modules():
        if any(name.startswith(f"{i}.") for i in inside):
            continue
        if isinstance(module, Block):
            yield from (module.ffn, module.attn.qkv, module.attn.o)
            inside.append(name)
        elif name.rpartition(".")[0].endswith("blocks") and any(True for _ in module.parameters()):
            yield module
            inside.append(name)


def shard(vla: nn.Module) -> nn.Module:
    """The same model in shares over all processes; alone it stays as it is. Fit it to its data before: its parameters
    are then no longer whole anywhere. It learns; to act, load `gathered` into another."""
    if ranks() == 1:
        return vla
    mesh = init_device_mesh(next(vla.parameters()).device.type, (ranks(),))
    for module in (*layers(vla), vla):
        fully_shard(module, mesh=mesh, reshard_after_forward=True)
    register_fsdp_forward_method(vla, "losses")
    warnings.filterwarnings("ignore", message=VIEW)
    return vla


def recompute(vla: nn.Module) -> nn.Module:
    """The same model, which keeps of its FFNs and blocks what goes in alone and computes the rest anew for the
    gradient: less memory for a third more arithmetic. Before `shard`."""
    for module in layers(vla):
        if not isinstance(module, nn.Linear):
            again = partial(checkpoint, module.forward, use_reentrant=False, preserve_rng_state=False)
            module.forward = again
    return vla


def own(x: Tensor) -> Tensor:
    """This process's share of a tensor; of one that is not in shares, all of it."""
    return x.to_local() if isinstance(x, DTensor) else x


def whole(x: Tensor) -> Tensor:
    """All of a tensor that may be in shares; every process has to ask."""
    return x.full_tensor() if isinstance(x, DTensor) else x


def cut(x: Tensor, like: Tensor) -> Tensor:
    """A whole tensor where `like` is, in shares as that is; one of another shape, as a step is, stays whole."""
    x = x.to(like.device)
    if not isinstance(like, DTensor) or isinstance(x, DTensor) or x.shape != like.shape:
        return x
    return distribute_tensor(x, like.device_mesh, like.placements, src_data_rank=None)


def gathered(vla: nn.Module) -> dict[str, Tensor]:
    """All weights and buffers by name, whole; every process has to ask."""
    return {n: whole(x) for n, x in vla.state_dict().items()}


def in_shares(vla: nn.Module) -> bool:
    """Whether a model is."""
    return any(isinstance(p, DTensor) for p in vla.parameters())


# ---- states ----------------------------------------------------------------------------------------------


def save_shares(folder: Path, tensors: Mapping[str, Tensor], where: Mapping[str, Any]) -> None:
    """Write a state, each process its shares, atomically: safetensors by torch.distributed.checkpoint, and `where`,
    whatever JSON holds. Every process has to ask."""
    with replacing_folder(folder) if rank() == 0 else nullcontext():
        dist.barrier()  # the folder is there
        writer = dcp.HuggingFaceStorageWriter(str(being_replaced(folder)), save_distributed=True)
        dcp.save(dict(tensors), storage_writer=writer)
        if rank() == 0:
            (being_replaced(folder) / WHERE).write_text(json.dumps(where))
        dist.barrier()  # all is written
    dist.barrier()  # and in its place


def read_where(folder: Path) -> dict[str, Any] | None:
    """What came with the shares in a folder; None for one of another kind."""
    file = folder / WHERE
    return json.loads(file.read_text()) if file.exists() else None


def load_shares(folder: Path, tensors: Mapping[str, Tensor]) -> None:
    """Fill these tensors, whole or in however many shares, from those of a folder, in however many it has them. With
    several processes every one has to ask. BadCheckpoint where it does not hold all of them."""
    try:
        dcp.load(dict(tensors), storage_reader=dcp.HuggingFaceStorageReader(str(folder)))
    except (CheckpointException, SafetensorError, RuntimeError, ValueError, KeyError, OSError) as error:
        told = str(error).strip().splitlines()[-1:] or [type(error).__name__]
        raise BadCheckpoint(f"{folder}: {told[0]}", "the shares of this model", "begin anew, or restore it") from error
