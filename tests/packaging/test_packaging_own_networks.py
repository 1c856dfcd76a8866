"""Networks that somebody brings: other inputs than pictures, attention, and what their ladders must agree with."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from accordion.artifact.layout import Layout
from accordion.artifact.verify import verify_package
from accordion.data import Dataset, Split, load
from accordion.elastic import ElasticNetwork, nested
from accordion.errors import AccordionError, UsageError
from accordion.packaging import package_network
from accordion.packaging.check import lay_out_prefixes
from accordion.profiling import measure_ladder

WORDS, WIDTH = 11, 8


class Reads(nn.Module):
    """Words [n, t] int64 to scores of the next one [n, t, words], by transformer layers that take a mask."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(WORDS, WIDTH)
        self.layers = nn.TransformerEncoder(nn.TransformerEncoderLayer(WIDTH, 2, 16, batch_first=True), 3)
        self.head = nn.Linear(WIDTH, WORDS)

    def forward(self, words: Tensor) -> Tensor:
        scores: Tensor = self.head(self.layers(self.embed(words)))
        return scores


def ladder_of(network: ElasticNetwork, **changes: Any) -> dict[str, Any]:
    quality = {
        "metric": "perplexity", "direction": "lower", "unit": "1", "value": 9.0, "interval": [8.0, 10.0], "confidence": 0.95,
        "interval_method": "bootstrap", "samples": 10, "dataset": "words", "split": "test",
    }  # fmt: skip
    rows = [
        {
            "index": k,
            "blocks": {"total": sum(network.order.by_stage(k)), "by_stage": list(network.order.by_stage(k))},
            "precision": "float32",
            "parameters": sum(p.numel() for p in network.at(k).parameters()),
            "macs": 10**6,
            "macs_per": "input",
            "quality": quality,
        }
        for k in range(len(network))
    ]
    return {
        "schema_version": 1,
        "task": "language-modelling",
        "order": "mine",
        "inputs": [{"name": "tokens", "dtype": "int64", "shape": ["n", "t"]}],
        "outputs": [{"name": "scores", "dtype": "float32", "shape": ["n", "t", WORDS]}],
        "configurations": rows,
        **changes,
    }


@pytest.fixture
def reader() -> ElasticNetwork:
    torch.manual_seed(0)
    layers = tuple(f"layers.layers.{n}" for n in range(3))
    return ElasticNetwork(Reads(), nested("mine", (layers,), [(1,), (3,)]), torch.zeros(2, 5, dtype=torch.int64)).eval()


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")  # of PyTorch's own checks of sizes
def test_a_transformer_of_words_under_its_ladders_own_names(reader: ElasticNetwork, tmp_path: Path) -> None:
    words = torch.arange(10).reshape(2, 5) % WORDS
    fixed = ladder_of(
        reader,
        inputs=[{"name": "tokens", "dtype": "int64", "shape": ["n", 5]}],
        outputs=[{"name": "scores", "dtype": "float32", "shape": ["n", 5, WORDS]}],
    )
    package_network(reader, fixed, words, tmp_path / "reads")
    answers_like(reader, tmp_path / "reads", torch.arange(15).reshape(3, 5) % WORDS, tmp_path / "laid")


def test_texts_of_any_length(tmp_path: Path) -> None:
    torch.manual_seed(0)
    blocks = [nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Tanh()) for _ in range(3)]
    module = nn.Sequential(nn.Embedding(WORDS, WIDTH), *blocks, nn.Linear(WIDTH, WORDS))
    network = ElasticNetwork(module, nested("mine", (("1", "2", "3"),), [(1,), (3,)])).eval()
    package_network(network, ladder_of(network), torch.zeros(2, 5, dtype=torch.int64), tmp_path / "reads")
    answers_like(network, tmp_path / "reads", torch.arange(21).reshape(3, 7) % WORDS, tmp_path / "laid")


def answers_like(network: ElasticNetwork, package: Path, words: Tensor, folder: Path) -> None:
    """Each prefix, under the ladder's names, in plain ONNX Runtime."""
    assert verify_package(package) == []
    layout = Layout.open(package)
    manifest = layout.manifest()
    for configuration, laid in lay_out_prefixes(layout, manifest, layout.ladder(manifest), folder):
        session = onnxruntime.InferenceSession(laid / configuration.graph)
        (scores,) = session.run(["scores"], {"tokens": words.numpy()})
        np.testing.assert_allclose(scores, network(words, configuration.index).detach().numpy(), atol=1e-4)


@pytest.mark.parametrize(
    ("changes", "words", "problem"),
    [
        ({}, torch.zeros(2, 5), r"are torch.float32 \[2, 5\], the ladder's 'tokens' is int64 \['n', 't'\]"),
        ({}, torch.zeros(1, 5, dtype=torch.int64), "give two or more"),
        (
            {"inputs": [{"name": "tokens", "dtype": "int64", "shape": ["n", 4]}]},
            torch.zeros(2, 5, dtype=torch.int64),
            r"\['n', 4\]",
        ),
        (
            {"outputs": [{"name": name, "dtype": "float32", "shape": ["n"]} for name in "ab"]},
            torch.zeros(2, 5, dtype=torch.int64),
            "names 2 outputs",
        ),
        ({"configurations": None}, torch.zeros(2, 5, dtype=torch.int64), "no configurations"),
    ],
)
def test_a_ladder_that_does_not_fit(
    reader: ElasticNetwork, tmp_path: Path, changes: dict[str, Any], words: Tensor, problem: str
) -> None:
    with pytest.raises(UsageError, match=problem):
        package_network(reader, ladder_of(reader, **changes), words, tmp_path / "reads")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load("digits")


def classifier(*last: nn.Module) -> ElasticNetwork:
    torch.manual_seed(0)
    blocks = [nn.Sequential(nn.Linear(64, 64), nn.ReLU()) for _ in range(3)]
    module = nn.Sequential(nn.Flatten(), *blocks, *(last or (nn.Linear(64, 10),)))
    return ElasticNetwork(module, nested("mine", (("1", "2", "3"),), [(1,), (3,)])).eval()


def measured(network: ElasticNetwork, dataset: Dataset) -> dict[str, Any]:
    return measure_ladder(network, dataset, dataset.test, split="test", device_latency=False).ladder


def test_normalised_pictures_are_not_what_devices_give(digits: Dataset, tmp_path: Path) -> None:
    network = classifier()
    x = torch.from_numpy(digits.test.x[:8]).float() / 255
    with pytest.raises(UsageError, match=r"the ladder says 0 to 1: .*normalise its inputs itself"):
        package_network(network, measured(network, digits), (x - 0.5) / 0.3, tmp_path / "own")
    package_network(network, measured(network, digits), x, str(tmp_path / "own"))  # type: ignore[arg-type]  # a text does, too
    assert verify_package(tmp_path / "own") == []
    with pytest.raises(UsageError, match="is no name"):
        package_network(network, measured(network, digits), x, tmp_path / "named", name="Team Own!")


class Both(nn.Module):
    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"logits": x}


@pytest.mark.parametrize(
    ("last", "problem"),
    [
        ((Both(),), "gives dict, not one tensor of logits"),
        ((nn.Linear(64, 9),), r"gives torch.float32 \[1, 9\], not logits \[1, 10\]"),
        ((nn.Linear(32, 10),), r"does not take a batch of \[1, 1, 8, 8\]"),
        ((nn.Linear(64, 10).double(),), r"does not take a batch of \[1, 1, 8, 8\] torch.float32"),
    ],
)
def test_a_network_that_is_no_classifier_of_these_pictures(digits: Dataset, last: tuple[nn.Module, ...], problem: str) -> None:
    with pytest.raises(UsageError, match=problem):
        measured(classifier(*last), digits)


def test_a_block_that_changes_the_shape_is_named(digits: Dataset) -> None:
    module = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.Linear(32, 10))
    network = ElasticNetwork(module, nested("mine", (("1",),), [(1,)]))
    with pytest.raises(UsageError, match=r"can't be skipped: 1 \(\[1, 64\]"):
        measured(network, digits)


class Counts(nn.Module):
    """Adds to each example what it made for as many as `how` says there are."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.blocks = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH))
        self.head, self.how = nn.Linear(WIDTH, 10), how

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(x[:, 0, 0])
        if self.how == "len":
            x = x + torch.ones(1, WIDTH).expand(len(x), -1)
        elif self.how == "int":
            x = x + torch.zeros(int(x.shape[0]), WIDTH)
        else:
            x = x + torch.ones(1, WIDTH).expand(x.shape[0], -1)
        scores: Tensor = self.head(x)
        return scores


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize("how", ["len", "int", "shape"])
def test_a_graph_for_one_size_of_batch_is_refused(digits: Dataset, tmp_path: Path, how: str) -> None:
    x = torch.from_numpy(digits.test.x[:8]).float() / 255
    network = ElasticNetwork(Counts(how), nested("own", (("blocks.0", "blocks.1"),), [(1,), (2,)]), x).eval()
    ladder = measure_ladder(network, digits, digits.test.take(slice(0, 50)), split="test", device_latency=False).ladder
    if how == "shape":
        package_network(network, ladder, x, tmp_path / "model", name="own")
        assert not verify_package(tmp_path / "model")
        return
    with pytest.raises(AccordionError, match=r"configuration 0 holds for batches of 8 alone: .*x\.shape\[0\]"):
        package_network(network, ladder, x, tmp_path / "model", name="own")
    assert not (tmp_path / "model" / "index.json").exists()


def test_arrays_that_are_no_data_set(digits: Dataset) -> None:
    x, y = digits.test.x, digits.test.y
    for wrong_x, wrong_y, problem in (
        (x / 255, y, "pictures are float64"),
        (x[:, 0], y, "not uint8"),
        (x, y[:-1], r"labels are int64 \[358\]"),
        (x, y.astype(np.float32), "labels are float32"),
    ):
        with pytest.raises(UsageError, match=problem):
            Split(wrong_x, wrong_y)
    with pytest.raises(UsageError, match="labels of train go from 0 to 9, with 9 classes"):
        replace(digits, classes=digits.classes[:9])
    with pytest.raises(UsageError, match="2 means and 1 deviations"):
        replace(digits, mean=(0.5, 0.5))
    with pytest.raises(UsageError, match="does not fit a network"):
        nested("mine", (("1", "2"),), [1, 2])  # type: ignore[list-item]
