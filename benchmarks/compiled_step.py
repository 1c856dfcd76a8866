"""Training steps compiled against the same steps uncompiled: `python benchmarks/compiled_step.py --device cuda`.

Small networks are bound on a GPU by the launches of their kernels, which a graph recorded once for each configuration saves. Here
one elastic network is trained eagerly and one by each backend of `accordion train --compile`, in one run: in every round each of
them does as many steps as the others, on the same batches and the same configurations drawn by the policy, in another order from
round to round. A step is all of it: forward, loss, backward, optimizer, and the loss read back. What compiling costs is told apart:
the first step of every configuration, which is repeated for none of the rounds.

The whole training that is foreseen is of so many epochs of 45,000 pictures, compiling included, without validation and data.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median, quantiles

import numpy as np
import torch
from torch import Tensor

from accordion.elastic import CifarResNet, ElasticNetwork, by_name
from accordion.errors import TrainingError
from accordion.profiling.latency import machine_name
from accordion.training import policies
from accordion.training.compiled import CompiledSteps
from accordion.training.config import COMPILE

PICTURES = 45_000
EAGER = "off"


class Trainer:
    """One network in training by one backend; `EAGER` is none."""

    def __init__(self, backend: str, depth: int, order: str, device: torch.device) -> None:
        torch.manual_seed(0)
        module = CifarResNet(depth, 10).to(device)
        network = ElasticNetwork(module.to(memory_format=torch.channels_last), by_name(order, module.stages)).train()
        self.backend, self.device, self.configurations = backend, device, len(network)
        cuda = device.type == "cuda"
        self.stepping = network if backend == EAGER else CompiledSteps(network, backend, cuda=cuda)
        self.optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)

    def step(self, x: Tensor, y: Tensor, k: int) -> float:
        """The loss after one step of configuration `k`."""
        with torch.autocast(self.device.type, torch.bfloat16):
            outputs = self.stepping.outputs(x, [k])
        loss = torch.nn.functional.cross_entropy(outputs[k].float(), y)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        return loss.item()

    def first_steps(self, x: Tensor, y: Tensor) -> list[float]:
        """Seconds of the first step of each configuration."""
        found = []
        for k in range(self.configurations):
            began = time.perf_counter()
            self.step(x, y, k)
            found.append(time.perf_counter() - began)
        return found


def measure(
    backends: Sequence[str],
    *,
    depth: int,
    policy: str,
    batch: int,
    steps: int,
    rounds: int,
    epochs: int,
    device: torch.device,
) -> dict[str, object]:
    """Samples a second of each backend by round, their ratios to eager steps, and the training that is foreseen."""
    order = "blockwise" if policy.startswith("Block") else "right-to-left"
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(batch, 3, 32, 32, generator=generator).to(device).contiguous(memory_format=torch.channels_last)
    y = torch.randint(0, 10, (batch,), generator=generator).to(device)
    trainers, first, failed = [], {}, {}
    for backend in (EAGER, *backends):
        trainer = Trainer(backend, depth, order, device)
        try:
            first[backend] = trainer.first_steps(x, y)
        except TrainingError as error:  # a backend need not support a machine
            failed[backend] = str(error)
            continue
        trainers.append(trainer)
    p = np.array(policies.named(policy, trainers[0].configurations).probabilities)
    seconds: dict[str, list[float]] = {one.backend: [] for one in trainers}
    losses: dict[str, float] = {}
    rng = random.Random(0)
    for number in range(rounds):
        drawn = np.random.default_rng(number).choice(len(p), size=steps, p=p / p.sum())
        for trainer in rng.sample(trainers, len(trainers)):
            began = time.perf_counter()
            for k in drawn:
                losses[trainer.backend] = trainer.step(x, y, int(k))
            seconds[trainer.backend].append(time.perf_counter() - began)
    found = {}
    for backend, times in seconds.items():
        ratios = [eager / own for eager, own in zip(seconds[EAGER], times, strict=True)]
        spread = quantiles(ratios, n=10, method="inclusive") if rounds > 1 else ratios * 9
        rate = steps * batch / median(times)
        found[backend] = {
            "samples_per_second": rate,
            "times_eager": median(ratios),
            "times_eager_spread": [spread[0], spread[-1]],
            "first_steps_s": sum(first[backend]),
            "training_minutes": (epochs * PICTURES / rate + sum(first[backend])) / 60,
            "last_loss": losses[backend],
        }
    return {"order": order, "configurations": len(p), "backends": found, "failed": failed}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--depth", type=int, default=56)
    parser.add_argument("--policy", default="CoML-05")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--steps", type=int, default=50, help="of each in a round")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--epochs", type=int, default=164)
    parser.add_argument(
        "--backends", nargs="+", choices=[one for one in COMPILE if one != EAGER], default=["cudagraphs", "inductor"]
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("-o", "--out", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    settings = {name: value for name, value in vars(arguments).items() if name not in ("out", "backends")}
    device = torch.device(arguments.device)
    found = measure(arguments.backends, **{**settings, "device": device})
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else machine_name()
    document = {"machine": name, "torch": torch.__version__, **settings, **found}
    if arguments.out is not None:
        arguments.out.write_text(json.dumps(document, indent=1) + "\n")
    print(f"ResNet-{arguments.depth}, {arguments.policy}, batch {arguments.batch}, bfloat16, {name}")
    print("backend      samples/s   times eager   [10 %, 90 %]   first steps   whole training")
    for backend, row in document["backends"].items():
        low, high = row["times_eager_spread"]
        print(
            f"{backend:10} {row['samples_per_second']:11,.0f} {row['times_eager']:13.2f}   [{low:.2f}, {high:.2f}] "
            f"{row['first_steps_s']:11.1f} s {row['training_minutes']:12.1f} min"
        )
    for backend, why in document["failed"].items():
        print(f"{backend}: {why}")


if __name__ == "__main__":
    main()
