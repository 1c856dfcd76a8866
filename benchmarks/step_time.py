"""What a training step costs under a policy, against networks built separately: `python benchmarks/step_time.py`.

The paper's rule draws one configuration a step and runs only its blocks. So the mean step should cost Σ p(k)·t(k), where t(k) is
the step of a network that was built with configuration k's blocks and no others. Both are timed here in one run: in every round,
for every configuration in random order, one step of the elastic network and one of the separate one, which of them first changing
from round to round. Ratios are of the sums over configurations within a round, so a slow moment of the machine hits both.

Blocks of different stages cost different times on a CPU, so the share of the time is not the share of the blocks: both are printed.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from contextlib import nullcontext
from pathlib import Path
from statistics import median, quantiles

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from accordion.elastic import CifarResNet, ElasticNetwork, by_name
from accordion.profiling.latency import machine_name
from accordion.training import policies


class Stepper:
    """One network with its optimizer; `seconds(x, y, k)` is a whole training step, data aside."""

    def __init__(self, module: nn.Module, *, bf16: bool) -> None:
        self.module, self.bf16 = module, bf16
        self.optimizer = torch.optim.SGD(module.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)

    def seconds(self, x: Tensor, y: Tensor, k: int | None = None, *, clock: str) -> float:
        now = time.process_time if clock == "cpu" else time.perf_counter
        began = now()
        with torch.autocast("cpu", torch.bfloat16) if self.bf16 else nullcontext():
            logits = self.module(x) if k is None else self.module(x, k)
        loss = F.cross_entropy(logits.float(), y)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        return now() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--depth", type=int, default=20)
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--policies", nargs="+", default=["CoML-05", "CoML-03", "BlockCoML-05", "BlockCoML-03"])
    parser.add_argument("--batch", type=int, default=124)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall", help="cpu: on a machine that does something else too")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("-o", "--out", type=Path, metavar="FILE", help="keep it there, in place of the same network's before")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    found = {}
    for order in ("right-to-left", "blockwise"):
        chosen = [name for name in arguments.policies if name.startswith("Block") == (order == "blockwise")]
        if chosen:
            found |= _measure(order, chosen, arguments)
    settings = {name: value for name, value in vars(arguments).items() if name not in ("json", "out")}
    document = {"machine": machine_name(), "torch": torch.__version__, **settings, "policies": found}
    if arguments.out is not None:
        _keep(document, arguments.out)
    if arguments.json:
        print(json.dumps(document, indent=1))
        return
    print(f"ResNet-{arguments.depth}, batch {arguments.batch}, {arguments.threads} threads, {document['machine']}")
    print(
        "policy         expected step ÷ Σ p·t(separate)   [10 %, 90 % of rounds]   expected ÷ complete step   mean share of blocks"
    )
    for name, row in found.items():
        low, high = row["ratio_spread"]
        print(f"{name:14} {row['ratio']:31.3f}   [{low:.3f}, {high:.3f}] {row['time_share']:31.1%} {row['block_share']:22.1%}")


def _keep(document: dict[str, object], path: Path) -> None:
    before = json.loads(path.read_text()) if path.exists() else []
    rows = [row for row in before if (row["depth"], row["width"]) != (document["depth"], document["width"])]
    path.write_text(json.dumps(sorted([*rows, document], key=lambda row: (row["depth"], row["width"])), indent=1) + "\n")


def _measure(order: str, names: list[str], arguments: argparse.Namespace) -> dict[str, dict[str, object]]:
    torch.manual_seed(0)
    module = CifarResNet(arguments.depth, 10, widths=(arguments.width, 2 * arguments.width, 4 * arguments.width))
    network = ElasticNetwork(module.to(memory_format=torch.channels_last), by_name(order, module.stages)).train()
    ks = range(len(network))
    separate = [Stepper(network.extract(k).train(), bf16=arguments.bf16) for k in ks]
    elastic = Stepper(network, bf16=arguments.bf16)
    x = torch.rand(arguments.batch, 3, 32, 32).contiguous(memory_format=torch.channels_last)
    y = torch.randint(0, 10, (arguments.batch,))
    rng = random.Random(0)
    rounds: list[tuple[list[float], list[float]]] = []
    for number in range(arguments.rounds + 1):
        ours, theirs = [0.0] * len(ks), [0.0] * len(ks)
        for k in rng.sample(ks, len(ks)):
            for first in (True, False) if number % 2 else (False, True):
                if first:
                    ours[k] = elastic.seconds(x, y, k, clock=arguments.clock)
                else:
                    theirs[k] = separate[k].seconds(x, y, clock=arguments.clock)
        if number:  # the first round warms up
            rounds.append((ours, theirs))
    blocks = [sum(network.order.by_stage(k)) / sum(network.order.by_stage(len(network) - 1)) for k in ks]
    found: dict[str, dict[str, object]] = {}
    for name in names:
        p = policies.named(name, len(network)).probabilities
        expected = [(_mean(p, ours), _mean(p, theirs), theirs[-1]) for ours, theirs in rounds]
        ratios = [ours / theirs for ours, theirs, _ in expected]
        spread = quantiles(ratios, n=10, method="inclusive") if len(ratios) > 1 else ratios * 9
        found[name] = {
            "order": order,
            "ratio": median(ratios),
            "ratio_spread": [spread[0], spread[-1]],
            "time_share": median(ours / complete for ours, _, complete in expected),
            "block_share": _mean(p, blocks),
        }
    return found


def _mean(p: tuple[float, ...], values: list[float]) -> float:
    return sum(weight * value for weight, value in zip(p, values, strict=True))


if __name__ == "__main__":
    main()
