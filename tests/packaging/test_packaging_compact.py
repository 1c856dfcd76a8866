"""Packages of encoded weights, from the run to plain ONNX Runtime and back over a real endpoint."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from accordion.artifact.archive import unpack
from accordion.artifact.ladder import Ladder, decode_ladder
from accordion.artifact.layout import Layout
from accordion.artifact.manifest import WEIGHT_RAW, WEIGHT_TAR_ZSTD, Manifest
from accordion.artifact.segment import parse_header
from accordion.artifact.verify import verify_package
from accordion.cli import main
from accordion.errors import AccordionError, UnmeetableError, UsageError
from accordion.packaging import compact, package
from accordion.packaging.check import lay_out_prefixes
from accordion.profiling import profile
from accordion.training import RunDirectory, load_run


def opened(out: Path) -> tuple[Layout, Manifest, Ladder]:
    layout = Layout.open(out)
    manifest = layout.manifest()
    return layout, manifest, decode_ladder(manifest.layers[0], layout.blob_path(manifest.layers[0].digest).read_bytes())


def answers(out: Path, x: np.ndarray, folder: Path, *, alternative: bool = False) -> list[np.ndarray]:
    """Each configuration in plain ONNX Runtime, from its own prefix."""
    layout, manifest, ladder = opened(out)
    found = []
    for one, laid in lay_out_prefixes(layout, manifest, ladder, folder):
        path = laid / (one.alternatives[0].graph if alternative else one.graph)
        found.append(onnxruntime.InferenceSession(path).run(None, {"input": x})[0])
    return found


def pictures(run: Path, count: int = 20) -> Any:
    _, network, dataset = load_run(run)
    return network, dataset.test.x[:count].astype(np.float32) / 255, dataset


@pytest.mark.parametrize("codec, most", [("float16", 0.01), ("bfloat16", 0.05), ("float8", 0.3), ("int8", 0.1)])
def test_a_smaller_codec_answers_nearly_the_same(profiled: Path, tmp_path: Path, codec: str, most: float) -> None:
    out = tmp_path / "model"
    package(profiled, out, codec=codec)
    assert verify_package(out) == []
    network, x, _ = pictures(profiled)
    found = answers(out, x, tmp_path / "laid")
    for k, answer in enumerate(found):
        wanted = network.at(k).eval()(torch.from_numpy(x)).detach().numpy()
        assert 0 < np.abs(answer - wanted).max() <= most * np.abs(wanted).max()
    _, _, ladder = opened(out)
    assert [one.precision for one in ladder.configurations] == [codec] * len(network)


def test_planes_add_up_and_nothing_is_sent_twice(profiled: Path, tmp_path: Path) -> None:
    out = tmp_path / "model"
    package(profiled, out, codec="planes", rounding="compensated", integer=True, latency=False)
    assert verify_package(out) == []
    network, x, dataset = pictures(profiled, 359)
    found = answers(out, x, tmp_path / "laid")
    _, manifest, ladder = opened(out)
    assert [one.precision for one in ladder.configurations] == ["int4", "int4", "int4", "int4+4", "int4+4+8"]
    with torch.no_grad():
        wanted = [network.at(one.blocks.total - 1).eval()(torch.from_numpy(x)).numpy() for one in ladder.configurations]
    off = [float(np.abs(a - b).max() / np.abs(b).max()) for a, b in zip(found, wanted, strict=True)]
    assert off[3] < off[2] / 2 and off[4] < 0.03
    # What the ladder says of the test split is what the package gives, not what the network gave.
    for one, answer in zip(ladder.configurations, found, strict=True):
        right = answer.argmax(1) == dataset.test.y[: len(x)]
        assert one.quality.samples == len(x) and one.quality.value == pytest.approx(right.mean())
    integers = answers(out, x, tmp_path / "again", alternative=True)
    for one, answer in zip(ladder.configurations, integers, strict=True):
        (alternative,) = one.alternatives
        assert alternative.kernels == "integer"
        # Measured in one graph for all, where runtimes may join other operators: a rounding to 8 bits can fall the other way.
        assert alternative.quality.value == pytest.approx((answer.argmax(1) == dataset.test.y[: len(x)]).mean(), abs=0.01)
    _each_code_once(out, manifest, network)


def _each_code_once(out: Path, manifest: Manifest, network: Any) -> None:
    blocks = sum(parameter.numel() for name, parameter in network.module.named_parameters() if ".conv" in name)
    layout = Layout.open(out)
    codes = 0
    for index, layer in enumerate(manifest.layers):
        if layer.media_type == WEIGHT_TAR_ZSTD:
            with layout.blob_path(layer.digest).open("rb") as stream:
                for name, data in unpack(stream, limit=2**30, what="x"):
                    infos = parse_header(data, len(data), name)
                    codes += sum(info.end - info.start for tensor, info in infos.items() if tensor.endswith("codes"))
        elif layer.media_type == WEIGHT_RAW:
            data = layout.blob_path(layer.digest).read_bytes()
            infos = parse_header(data, len(data), str(index))
            codes += sum(info.end - info.start for tensor, info in infos.items() if tensor.endswith("codes"))
    outside = 10 * 16  # the last layer, a byte each; the stem of 36 numbers is not worth scales
    assert codes == blocks * 2 + outside  # half a byte, half a byte, and one


def test_integer_kernels_really_run(profiled: Path, tmp_path: Path) -> None:
    package(profiled, tmp_path / "model", codec="int8", integer=True, latency=False)
    layout, manifest, ladder = opened(tmp_path / "model")
    *_, (one, laid) = lay_out_prefixes(layout, manifest, ladder, tmp_path / "laid")
    counts = []
    for graph in (one.graph, one.alternatives[0].graph):
        options = onnxruntime.SessionOptions()
        options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
        options.log_severity_level = 3
        onnxruntime.InferenceSession(laid / graph, options)
        nodes = onnx.load(tmp_path / "optimised.onnx", load_external_data=False).graph.node
        counts.append([sum(node.op_type == kind for node in nodes) for kind in ("Conv", "QLinearConv", "Cast")])
    assert counts[0] == [7, 0, 0]  # weights were rebuilt when the session started: nothing of it is left
    assert counts[1] == [1, 6, 0]  # all but the first layer, whose input is a picture of floats


def test_the_best_path_is_found_once_and_can_be_had_again(profiled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package(profiled, tmp_path / "a", name="model", codec="auto", rounding="nearest")
    lattice = json.loads((profiled / "lattice.json").read_text())
    assert lattice["path"][-1]["depth"] == 2 and lattice["path"][-1]["planes"] == [3, 3, 3]
    assert len(lattice["measured"]) == 7
    shutil.copy(profiled / "lattice.json", tmp_path / "path.json")

    def measured_again(*_: Any) -> Any:
        raise AssertionError("the lattice was measured already")

    monkeypatch.setattr("accordion.packaging.lattice.correct", measured_again)
    again = package(profiled, tmp_path / "b", name="model", codec="auto", rounding="nearest")
    by_file = package(profiled, tmp_path / "c", name="model", codec=str(tmp_path / "path.json"))
    assert again.digest == by_file.digest == Layout.open(tmp_path / "a").manifest().digest
    _, _, ladder = opened(tmp_path / "a")
    assert len(ladder) == len(lattice["path"])


def test_the_first_answer_is_the_best_that_fits(profiled: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"codec": "auto", "rounding": "nearest", "integer": True, "latency": False}
    errors: list[float] = []
    tight = 0
    for name in "abc":
        limit = {"a": None, "b": tight, "c": 10**6}[name]
        package(profiled, tmp_path / name, **options, first_answer=limit)
        assert verify_package(tmp_path / name) == []
        lattice = json.loads((profiled / "lattice.json").read_text())
        _, manifest, ladder = opened(tmp_path / name)
        first, begins = ladder.configurations[0], lattice["path"][0]
        assert len(ladder) == len(lattice["path"]) and first.blocks.total == begins["depth"] + 1
        assert first.bytes == sum(layer.size for layer in manifest.layers[: first.layers])
        beside = first.bytes - begins["bytes"]
        if limit is None:
            tight = min(point["bytes"] for point in lattice["points"]) + beside + 300
            continue
        assert first.bytes <= limit
        errors.append(begins["error"])
        # Whatever is better does not fit, if what comes beside the weights is about what it is here.
        better = [point for point in lattice["points"] if point["error"] < begins["error"]]
        assert all(point["bytes"] + beside > limit - 600 for point in better)
    assert errors[1] == min(point["error"] for point in lattice["points"]) <= errors[0]
    with pytest.raises(UnmeetableError, match="the smallest takes") as refused:
        package(profiled, tmp_path / "d", **options, first_answer=500)
    assert refused.value.limit == "first_answer" and not (tmp_path / "d").exists()


def test_the_command_says_when_no_answer_is_so_small(profiled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["package", str(profiled), "-o", str(tmp_path / "model"), "--first-answer", "0.3kB"]
    assert main(command) == 2 and "choose the codec auto" in capsys.readouterr().err
    assert main([*command, "--codec", "auto", "--rounding", "nearest"]) == 3
    assert "the smallest takes" in capsys.readouterr().err


def test_a_first_answer_that_came_out_larger_is_not_handed_out(
    profiled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("accordion.packaging.packager._first_bytes", lambda *_: 1)
    with pytest.raises(AccordionError, match="allow as many"):
        package(profiled, tmp_path / "model", codec="auto", rounding="nearest", first_answer=1500)
    assert not (tmp_path / "model").exists()


def test_the_rounding_that_is_better_is_taken(profiled: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    said: list[str] = []
    package(profiled, tmp_path / "model", codec="int4", progress=said.append)
    (line,) = [line for line in said if line.startswith("rounding")]
    rows = {row["rounding"]: sum(row["right"]) for row in json.loads((profiled / "lattice-int4.json").read_text())["measured"]}
    assert line.startswith(f"rounding {max(rows, key=lambda one: rows[one])}")


def test_one_codec_s_figures_leave_another_s_alone(profiled: Path, tmp_path: Path) -> None:
    package(profiled, tmp_path / "auto", codec="auto")
    before = (profiled / "lattice.json").read_bytes()
    package(profiled, tmp_path / "int4", codec="int4")
    assert (profiled / "lattice.json").read_bytes() == before


def test_channels_without_weights_keep_their_biases_in_integers(profiled: Path, tmp_path: Path) -> None:
    """As pruning leaves them: what is added is then all that there is of such a channel."""
    directory = RunDirectory(profiled)
    weights = directory.read_weights()
    for name, tensor in weights.items():
        if name.startswith("stage") and tensor.ndim == 4:
            tensor[::2] = 0
    directory.write_weights(weights)
    profile(profiled, device_latency=False, limit=50)
    package(profiled, tmp_path / "model", codec="int8", integer=True, latency=False)
    _, x, _ = pictures(profiled)
    for one, other in zip(
        answers(tmp_path / "model", x, tmp_path / "laid"),
        answers(tmp_path / "model", x, tmp_path / "integers", alternative=True),
        strict=True,
    ):
        assert np.abs(one - other).max() < 0.05 * np.abs(one).max()


def test_latency_of_both_kernels_is_in_the_ladder(profiled: Path, tmp_path: Path) -> None:
    package(profiled, tmp_path / "model", codec="int8", integer=True)
    _, _, ladder = opened(tmp_path / "model")
    for one in ladder.configurations:
        assert one.extra["latency_s"]["median"] > 0 and one.alternatives[0].extra["latency_s"]["median"] > 0


def test_a_wrong_export_is_noticed(profiled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = compact.prepare

    def spoiled(*arguments: Any, **options: Any) -> Any:
        made = original(*arguments, **options)
        name = next(name for name, array in made.joint.tensors.items() if array.ndim == 4 and array.shape[0] > 1)
        made.joint.tensors[name] = made.joint.tensors[name] * np.float32(1.5)
        return made

    monkeypatch.setattr(compact, "prepare", spoiled)
    with pytest.raises(Exception, match="was exported wrongly"):
        package(profiled, tmp_path / "model", codec="int8")
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize(
    "options, message",
    [
        ({"codec": "int3"}, "unknown codec 'int3'"),
        ({"codec": "int4", "rounding": "up"}, "unknown rounding"),
        ({"codec": "float32", "integer": True}, "smaller codecs"),
        ({"codec": "float32", "first_answer": 20_000}, "codec auto"),
        ({"codec": "int4", "first_answer": 20_000}, "codec auto"),
    ],
)
def test_nonsense_is_refused_before_anything_is_done(profiled: Path, tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        package(profiled, tmp_path / "model", **options)
    assert not (tmp_path / "model").exists()
