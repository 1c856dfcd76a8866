from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch

from accordion.artifact.ladder import Ladder, decode_ladder
from accordion.artifact.layout import Layout
from accordion.artifact.manifest import Manifest
from accordion.artifact.verify import verify_package
from accordion.errors import AccordionError, FormatError, UsageError
from accordion.packaging import package, packager
from accordion.packaging.check import check_prefixes, lay_out_prefixes
from accordion.profiling import profile
from accordion.training import RunDirectory, load_run


def _files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def _ladder(out: Path, reference: str | None = None) -> tuple[Layout, Manifest, Ladder]:
    layout = Layout.open(out)
    manifest = layout.manifest(reference)
    return layout, manifest, decode_ladder(manifest.layers[0], layout.blob_path(manifest.layers[0].digest).read_bytes())


def test_a_package_is_valid_and_every_prefix_runs(profiled: Path, tmp_path: Path) -> None:
    out = tmp_path / "model"
    made = package(profiled, out)
    assert verify_package(out) == []
    layout, manifest, ladder = _ladder(out)
    assert manifest.digest == made.digest
    ladder.check_against(manifest)
    _, network, dataset = load_run(profiled)
    x = torch.from_numpy(dataset.test.x[10:15]).float() / 255
    seen = []
    for configuration, folder in lay_out_prefixes(layout, manifest, ladder, tmp_path / "laid"):
        (logits,) = onnxruntime.InferenceSession(folder / configuration.graph).run(None, {"input": x.numpy()})
        np.testing.assert_allclose(logits, network(x, configuration.index).detach().numpy(), atol=1e-4)
        seen.append(configuration.index)
    assert seen == list(range(len(network)))
    assert ladder.configurations[1].extra.get("weights_bytes") is None
    assert ladder.configurations[0].quality.samples == 50


def test_the_same_run_gives_the_same_bytes(profiled: Path, tmp_path: Path) -> None:
    package(profiled, tmp_path / "a" / "model")
    package(profiled, tmp_path / "b" / "model")
    assert _files(tmp_path / "a" / "model") == _files(tmp_path / "b" / "model")
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["model"]


def test_another_version_shares_what_it_has_in_common(profiled: Path, tmp_path: Path) -> None:
    out = tmp_path / "model"
    package(profiled, out, tag="v1")
    before = set(_files(out / "blobs"))
    directory = RunDirectory(profiled)
    weights = directory.read_weights()
    weights["stage3.0.conv2.weight"] = weights["stage3.0.conv2.weight"] * 1.5
    directory.write_weights(weights)
    profile(profiled, device_latency=False, limit=50)
    package(profiled, out, tag="v2")
    assert set(Layout.open(out).tags()) == {"v1", "v2"}
    assert verify_package(out) == []
    first, second = (_ladder(out, tag)[1] for tag in ("v1", "v2"))
    common = {layer.digest for layer in first.layers} & {layer.digest for layer in second.layers}
    assert len(common) >= len(first.layers) - 2  # all but the ladder and the last segment
    assert before < set(_files(out / "blobs"))


def test_the_same_version_again_changes_nothing(profiled: Path, tmp_path: Path) -> None:
    out = tmp_path / "model"
    package(profiled, out)
    before = _files(out)
    package(profiled, out)
    assert _files(out) == before


def test_overhead_stays_small(profiled: Path, tmp_path: Path) -> None:
    _, manifest, ladder = (package(profiled, tmp_path / "model"), *_ladder(tmp_path / "model")[1:])
    graphs = sum(layer.size for layer in manifest.layers if layer.media_type.endswith("tar+zstd"))
    assert graphs < 900 * len(ladder)


def test_a_package_that_answers_wrong_is_not_handed_out(profiled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = packager.make_parts

    def spoiled(network: Any, example: Any, progress: Any, **interface: Any) -> Any:
        parts = original(network, example, progress, **interface)
        segment = bytearray(parts[2].segment)
        segment[-1] ^= 0x40  # the exponent of the last float
        parts[2] = type(parts[2])(parts[2].graph_path, parts[2].graph, parts[2].segment_path, bytes(segment))
        return parts

    monkeypatch.setattr(packager, "make_parts", spoiled)
    with pytest.raises(AccordionError, match="configuration 2 answers other than the network"):
        package(profiled, tmp_path / "place" / "model")
    assert list((tmp_path / "place").iterdir()) == []


def test_a_run_without_a_ladder_is_refused(profiled: Path, tmp_path: Path) -> None:
    (profiled / "ladder.json").unlink()
    with pytest.raises(UsageError, match="accordion profile"):
        package(profiled, tmp_path / "model")
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize(
    "text, error, message",
    [
        ("{", FormatError, "not valid JSON"),
        ("[]", FormatError, "not a JSON object"),
        ('{"configurations": 3}', FormatError, "not a ladder"),
        ('{"configurations": [{}]}', UsageError, "has 1 configurations, the network 3"),
    ],
)
def test_a_ladder_that_is_none_is_refused(profiled: Path, tmp_path: Path, text: str, error: type[Exception], message: str) -> None:
    (profiled / "ladder.json").write_text(text)
    with pytest.raises(error, match=message):
        package(profiled, tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_a_directory_that_holds_something_else_is_left_alone(profiled: Path, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "letter.txt").write_text("dear")
    with pytest.raises(UsageError):
        package(profiled, tmp_path / "model")
    assert _files(tmp_path / "model") == {"letter.txt": b"dear"}


def test_an_empty_directory_is_taken(profiled: Path, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    package(profiled, tmp_path / "model")
    assert verify_package(tmp_path / "model") == []


def test_an_unknown_codec_is_refused(profiled: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="unknown codec 'int3'"):
        package(profiled, tmp_path / "model", codec="int3")


def test_the_check_notices_another_network(profiled: Path, tmp_path: Path) -> None:
    package(profiled, tmp_path / "model")
    layout, manifest, ladder = _ladder(tmp_path / "model")
    _, network, dataset = load_run(profiled)
    x = torch.from_numpy(dataset.test.x[:2]).float() / 255
    check_prefixes(layout, manifest, ladder, network, x)
    with torch.no_grad():
        network.module.head.linear.bias[0] += 0.01
    with pytest.raises(AccordionError, match=r"configuration 0 answers other than the network, by 0\.01"):
        check_prefixes(layout, manifest, ladder, network, x)


def test_the_ladder_in_the_package_is_the_measured_one(profiled: Path, tmp_path: Path) -> None:
    package(profiled, tmp_path / "model")
    _, _, ladder = _ladder(tmp_path / "model")
    measured = json.loads((profiled / "ladder.json").read_text())
    assert len(measured.pop("measured_on")) == 64  # of the run, not of the package
    shipped = ladder.to_json()
    for before, after in zip(measured["configurations"], shipped["configurations"], strict=True):
        kept = {name: value for name, value in before.items() if name != "weights_bytes"}  # with the complete one alone
        assert {name: after[name] for name in kept} == kept
    assert {name: shipped[name] for name in measured if name != "configurations"} == {
        name: value for name, value in measured.items() if name != "configurations"
    }


@pytest.mark.parametrize("time", ["yesterday", "2026-11-28", "2026-13-28T12:00:00Z", ""])
def test_a_time_that_is_none_is_refused_before_anything_is_computed(time: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="RFC 3339"):
        package(tmp_path / "no run", tmp_path / "model", created=time)
    assert not (tmp_path / "model").exists()


def test_a_stated_time_stands_in_the_config(profiled: Path, tmp_path: Path) -> None:
    made = package(profiled, tmp_path / "model", created="2026-11-28T12:00:00+01:00")
    config = json.loads(Layout.open(tmp_path / "model").read_blob(made.config, limit=10**6))
    assert config["descriptor"]["createdAt"] == "2026-11-28T12:00:00+01:00"
