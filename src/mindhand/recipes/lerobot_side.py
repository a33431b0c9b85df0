"""LeRobot's side of the proofs: a plain script for LeRobot's own environment (`lerobot_env.py`), nothing of mindhand.

    python -I lerobot_side.py versions|act|write|read|time FOLDER

What is asked lies in FOLDER/plan.json; answers are json, npz and safetensors beside it, never pickles.
"""

from __future__ import annotations

import json
import platform
import sys
import time
from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

WHAT_RAN = (
    "lerobot", "torch", "torchvision", "torchcodec", "datasets", "huggingface-hub", "av", "numpy", "draccus",
    "accelerate", "diffusers", "safetensors",
)  # fmt: skip
HELD: list[Any] = []  # what must live as long as the process


def get(module: str, name: str) -> Any:
    """A name of LeRobot, which is imported when it is asked for. torchvision's wheels declare operators for CUDA that a
    CPU build of PyTorch lacks; declared here, it imports, and nothing here calls them."""
    if not hasattr(torch.ops.torchvision, "nms"):
        HELD.append(torch.library.Library("torchvision", "DEF"))
        for op in ("nms", "qnms"):
            HELD[0].define(f"{op}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return getattr(import_module(f"lerobot.{module}"), name)


def plan_of(folder: Path) -> dict[str, Any]:
    """What is asked."""
    return json.loads((folder / "plan.json").read_text())


def versions(folder: Path) -> None:
    """versions.json: what runs here, after everything that is used was imported."""
    get("policies.act.modeling_act", "ACTPolicy"), get("datasets.lerobot_dataset", "LeRobotDataset")
    import_module("torchcodec.decoders")
    found = {"python": platform.python_version(), **{name: version(name) for name in WHAT_RAN}}
    (folder / "versions.json").write_text(json.dumps(found, indent=1))


def randomise(module: torch.nn.Module, seed: int) -> None:
    """Every weight and every buffer of a norm, so that none is at a value that hides it."""
    g = torch.Generator().manual_seed(seed)
    for name, x in module.state_dict().items():
        if name.endswith("pos_enc"):
            continue  # fixed
        if name.endswith("running_var") or (name.endswith("weight") and x.ndim == 1):
            x.copy_(0.5 + torch.rand(x.shape, generator=g))
        else:
            # Of embeddings and biases a tenth; a matrix keeps the size of what it is given.
            size = 0.1 if x.ndim == 1 or "embed" in name else x[0].numel() ** -0.5
            x.copy_(size * torch.randn(x.shape, generator=g))


def act(folder: Path) -> None:
    """checkpoint/: an ACTPolicy of random weights as LeRobot saves it, with its processors; items.npz: inputs and what
    it makes of each: "chunk" in robot units, and, learning from given actions at the mean of its latent and without
    dropout, "l1" and "kl". plan.json: "policy" (of ACTConfig), "cameras" {name: [h,w]}, "state", "action", "items",
    "seed"."""
    plan = plan_of(folder)
    kind, feature = get("configs.types", "FeatureType"), get("configs.types", "PolicyFeature")
    rng, state, action = np.random.default_rng(plan["seed"]), plan["state"], plan["action"]
    inputs = {f"observation.images.{n}": feature(kind.VISUAL, (3, *size)) for n, size in plan["cameras"].items()}
    inputs["observation.state"] = feature(kind.STATE, (state,))
    config = get("policies.act.configuration_act", "ACTConfig")(
        input_features=inputs,
        output_features={"action": feature(kind.ACTION, (action,))},
        pretrained_backbone_weights=None,
        device="cpu",
        push_to_hub=False,
        **plan["policy"],
    )
    policy = get("policies.act.modeling_act", "ACTPolicy")(config)
    randomise(policy, plan["seed"])
    shapes = {n: (3, 1, 1) if "images" in n else (f.shape[0],) for n, f in inputs.items()} | {"action": (action,)}
    spread = {n: (rng.normal(0.4, 0.1, s), rng.uniform(0.2, 1, s)) for n, s in shapes.items()}
    told = {n: {"mean": torch.tensor(m).float(), "std": torch.tensor(s).float()} for n, (m, s) in spread.items()}
    before, after = get("policies.act.processor_act", "make_act_pre_post_processors")(config, told)
    for saved in (policy, before, after):
        saved.save_pretrained(folder / "checkpoint")
    out: dict[str, list[np.ndarray]] = {}
    torch.randn_like = torch.zeros_like  # the latent at its mean
    for _ in range(plan["items"]):
        item = {n: rng.integers(0, 256, (*size, 3), dtype=np.uint8) for n, size in plan["cameras"].items()}
        item["state"] = rng.normal(size=state).astype(np.float32)
        item["actions"] = rng.normal(size=(config.chunk_size, action)).astype(np.float32)
        item["pad"] = np.arange(config.chunk_size) >= rng.integers(1, config.chunk_size + 1)
        batch = {
            f"observation.images.{n}": torch.from_numpy(item[n]).permute(2, 0, 1)[None].float() / 255
            for n in plan["cameras"]
        }
        batch |= {"observation.state": torch.from_numpy(item["state"])[None]}
        seen = before({**batch, "action": torch.from_numpy(item["actions"])[None]})
        item["chunk"] = after(policy.predict_action_chunk(seen))[0].numpy()
        for p in policy.modules():
            if isinstance(p, torch.nn.Dropout | torch.nn.MultiheadAttention):
                p.p = p.dropout = 0.0
        policy.train()
        with torch.no_grad():
            _, losses = policy.forward({**seen, "action_is_pad": torch.from_numpy(item["pad"])[None]})
        item |= {"l1": np.array(losses["l1_loss"]), "kl": np.array(losses["kld_loss"])}
        for n, x in item.items():
            out.setdefault(n, []).append(x)
    np.savez(folder / "items.npz", **{n: np.stack(x) for n, x in out.items()})


def frames(dataset: Any) -> Iterator[dict[str, np.ndarray]]:
    """All that LeRobot gives of each frame; pictures as uint8 (h,w,3)."""
    for i in range(len(dataset)):
        found = {}
        for name, x in dataset[i].items():
            if isinstance(x, torch.Tensor):
                seen = name.startswith("observation.images.")
                found[name] = (x.permute(1, 2, 0) * 255).round().byte().numpy() if seen else x.numpy()
            elif name == "task":
                found[name] = np.array(x)
        yield found


def read(folder: Path) -> None:
    """For each of plan.json's "datasets" {name: path}: NAME.npz with what LeRobot gives of all frames, columns as
    LeRobot names them, and NAME.json: "episodes" and "frames" as it counts them, and the "lengths" of the episodes.
    "ahead" {name: seconds}: actions so far ahead are asked for with each frame of that one."""
    plan = plan_of(folder)
    for name, path in plan["datasets"].items():
        ahead = plan["ahead"].get(name)
        how = {} if ahead is None else {"delta_timestamps": {"action": ahead}}
        dataset = get("datasets.lerobot_dataset", "LeRobotDataset")(f"local/{name}", root=path, **how)
        rows = list(frames(dataset))
        np.savez(folder / f"{name}.npz", **{n: np.stack([row[n] for row in rows]) for n in rows[0]})
        lengths = [int(x) for x in dataset.meta.episodes["length"]]
        about = {"episodes": dataset.num_episodes, "frames": dataset.num_frames, "lengths": lengths}
        (folder / f"{name}.json").write_text(json.dumps(about))


def clock(folder: Path) -> None:
    """times.json: seconds that LeRobot and PyTorch's DataLoader take for plan.json's "batches" of frames of the dataset
    at "path", by the number of "workers"; actions "ahead" seconds come with each. The first "warm" batches are not
    counted: processes start and files are opened meanwhile."""
    plan, out = plan_of(folder), {}
    dataset = get("datasets.lerobot_dataset", "LeRobotDataset")(
        "local/it", root=plan["path"], delta_timestamps={"action": plan["ahead"]}
    )
    for workers in plan["workers"]:
        loader = torch.utils.data.DataLoader(dataset, batch_sampler=plan["batches"], num_workers=workers)
        begin = 0.0
        for i, batch in enumerate(loader, 1):
            assert batch["action"].shape[1] == len(plan["ahead"])
            if i == plan["warm"]:
                begin = time.perf_counter()
        out[str(workers)] = time.perf_counter() - begin
    (folder / "times.json").write_text(json.dumps(out))


def write(folder: Path) -> None:
    """plan.json's "write" {name: {"video": codec or null, "fps", "tasks": [...], "cameras": {role: [h,w]}}}: LeRobot
    records the episodes in NAME-given-<i>.npz ("state", "action", a picture array a role) as dataset NAME."""
    for name, how in plan_of(folder)["write"].items():
        given = [dict(np.load(folder / f"{name}-given-{i}.npz")) for i in range(len(how["tasks"]))]
        kind = "image" if how["video"] is None else "video"
        sizes = {n: x.shape[1] for n, x in given[0].items() if n in ("state", "action")}
        features = {
            "observation.state": {"dtype": "float32", "shape": (sizes["state"],), "names": None},
            "action": {"dtype": "float32", "shape": (sizes["action"],), "names": None},
        }
        for role, size in how["cameras"].items():
            shape = {"shape": (*size, 3), "names": ["height", "width", "channels"]}
            features[f"observation.images.{role}"] = {"dtype": kind, **shape}
        dataset = get("datasets.lerobot_dataset", "LeRobotDataset").create(
            f"local/{name}",
            how["fps"],
            features,
            root=folder / name,
            use_videos=kind == "video",
            **({} if how["video"] is None else {"vcodec": how["video"]}),
        )
        for episode, task in zip(given, how["tasks"]):
            for t in range(len(episode["state"])):
                frame = {"observation.state": episode["state"][t], "action": episode["action"][t], "task": task}
                dataset.add_frame(frame | {f"observation.images.{r}": episode[r][t] for r in how["cameras"]})
            dataset.save_episode()
        dataset.finalize()


if __name__ == "__main__":
    COMMANDS = {"versions": versions, "act": act, "write": write, "read": read, "time": clock}
    if len(sys.argv) != 3 or sys.argv[1] not in COMMANDS:
        sys.exit(f"one of {sorted(COMMANDS)} and a folder, not {sys.argv[1:]}")
    torch.set_num_threads(1)
    COMMANDS[sys.argv[1]](Path(sys.argv[2]))
