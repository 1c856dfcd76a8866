"""Plausible mistakes of whoever uses this as a library end in an error that says what is wrong, not in somebody else's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from accordion.data import batches_per_epoch, load
from accordion.device import Link, Model
from accordion.elastic import CifarResNet, Family, OrderTable, nested
from accordion.errors import UsageError
from accordion.packaging.codecs.integers import quantize
from accordion.planning import Held, Overhead, Request
from accordion.planning.links import Trace
from accordion.planning.links.formats import parse_mahimahi
from accordion.profiling import clopper_pearson
from accordion.training import MODERN, Finishing, Policy, Recipe, TrainingConfig, correct, uniform

STAGES = (("a", "b"), ("c",))
ROWS = np.ones((2, 3), np.float32)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Link(rate_bps=float("inf")),
        lambda: Link(rate_bps=0),
        lambda: Held("sha256:" + "0" * 64, -1),
        lambda: Overhead(setup_round_trips=-1),
        lambda: Overhead(extra_bytes=float("nan")),  # type: ignore[arg-type]
        lambda: Request(max_bytes=1.5),  # type: ignore[arg-type]
        lambda: uniform(0),
        lambda: Policy("p", np.array([0.5, 0.6])),  # type: ignore[arg-type]
        lambda: Policy("p", [[0.5], [0.2, 0.3]]),  # type: ignore[arg-type]
        lambda: Policy("p", [True, 0.0]),  # type: ignore[arg-type]
        lambda: Finishing(quantize="int8"),  # type: ignore[arg-type]
        lambda: TrainingConfig(seed=1.5),  # type: ignore[arg-type]
        lambda: TrainingConfig(width=1.5),  # type: ignore[arg-type]
        lambda: TrainingConfig(policy=[0.5, 0.5]),  # type: ignore[arg-type]
        lambda: TrainingConfig(order=nested("n", STAGES, [[2, 1]])),  # type: ignore[arg-type]
        lambda: MODERN.with_changes(foo=1),
        lambda: MODERN.with_changes(sizes=((1,),)),
        lambda: MODERN.with_changes(sizes=(1, 2)),
        lambda: nested("n", STAGES, [[1.0, 0], [2, 1]]),  # type: ignore[list-item]
        lambda: nested("n", STAGES, [[None, 0], [2, 1]]),  # type: ignore[list-item]
        lambda: nested("n", STAGES, ["10", "21"]),  # type: ignore[list-item]
        lambda: OrderTable("o", ((1.5, 1),)),  # type: ignore[arg-type]
        lambda: OrderTable("o", None),  # type: ignore[arg-type]
        lambda: OrderTable("o", (row for row in ((1, 1),))),  # type: ignore[arg-type]
        lambda: OrderTable("o", (1, 2)),  # type: ignore[arg-type]
        lambda: OrderTable("o", ("11",)),  # type: ignore[arg-type]
        lambda: CifarResNet(8, 10, mean=[0.5], std=[0.2]),
        lambda: clopper_pearson(0, 0),
        lambda: clopper_pearson(5, 3),
        lambda: clopper_pearson(1, 3, 1.0),
        lambda: batches_per_epoch(5, 0),
        lambda: quantize(ROWS, 99),
        lambda: quantize(ROWS, 0),
        lambda: quantize(ROWS * np.float32("nan"), 8),
        lambda: Trace("t", 0.1, np.ones((2, 2))),
        lambda: Trace("t", 0.1, np.ones(2)).when(float("nan"), 1),
        lambda: Trace("t", 0.1, np.ones(2)).when(0, float("inf")),
        lambda: parse_mahimahi("1\n2\n", "x", 0),
        lambda: parse_mahimahi("1\n2\n", "x", float("nan")),
        lambda: Family("f", STAGES, ({"a"}, {"a", "b", "x"})),  # type: ignore[arg-type]
        lambda: Recipe.from_file("/nowhere/recipe.json"),
        lambda: OrderTable.from_file("/nowhere/order.json"),
    ],
)
def test_a_wrong_argument_is_named(wrong: Callable[[], object]) -> None:
    with pytest.raises(UsageError):
        wrong()


def test_numbers_and_rows_of_numpy_are_as_good(tmp_path: Path) -> None:
    assert TrainingConfig(seed=np.int64(3)).to_json()["seed"] == 3
    assert type(Request(max_bytes=np.int64(1000)).max_bytes) is int
    assert type(Held("sha256:" + "0" * 64, np.int64(2)).configuration) is int
    assert Policy("p", np.array([0.5, 0.5])).probabilities == (0.5, 0.5)  # type: ignore[arg-type]
    table = OrderTable("o", np.array([[1, 0], [2, 1]]))  # type: ignore[arg-type]
    assert table == OrderTable("o", ((1, 0), (2, 1)))
    assert table.order(STAGES) == nested("o", STAGES, [np.array([1, 0]).tolist(), [2, 1]])
    assert CifarResNet(8, 10, mean=np.array([0.5] * 3), std=np.array([0.2] * 3)).depth == 8  # type: ignore[arg-type]


def test_threads_are_whole_numbers() -> None:
    with pytest.raises(UsageError, match="number of threads"):
        Model.open("/nowhere", threads=1.5)  # type: ignore[arg-type]


def test_no_pictures_have_no_errors() -> None:
    digits = load("digits")
    module = CifarResNet(8, 10, in_channels=1)
    from accordion.elastic import ElasticNetwork, right_to_left

    network = ElasticNetwork(module, right_to_left(module.stages))
    assert correct(network, digits.test.take(np.arange(0)), [0])[0].shape == (0,)
