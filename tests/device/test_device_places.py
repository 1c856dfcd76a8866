"""The same bytes at several paths, in one version or in two; and files that only `state.json` vouches for."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from accordion.artifact.digest import sha256_digest
from accordion.artifact.layout import Layout
from accordion.artifact.verify import verify_package
from accordion.device import Model, Request, fetch, shed, upgrade, verify_model
from accordion.errors import DigestError
from accordion.planning import Held, make_plan
from odd_packages import GRAPH_RAW, WEIGHT_RAW, adding, write  # type: ignore[import-not-found]
from serving import serving

INPUT = np.array([[1, 2, 3, 4], [-1, 0.5, 0, 2]], np.float32)


@pytest.fixture
def moved(tmp_path: Path) -> Path:
    """`v1` has a segment at `a.safetensors`; `v2` has the same bytes at `b.safetensors` and another graph."""
    layout = Layout.create(tmp_path / "odd")
    for tag, place in (("v1", "a.safetensors"), ("v2", "b.safetensors")):
        (segment,), data, _ = adding("g.onnx", [place], [1])
        write(layout, tag, [(GRAPH_RAW, data, "g.onnx"), (WEIGHT_RAW, segment, place)], [(3, "g.onnx")])
    assert verify_package(layout.path) == []
    return layout.path


@pytest.fixture
def twice(tmp_path: Path) -> Path:
    """Configuration 1 multiplies once more by the very same bytes, which it has at another path."""
    layout = Layout.create(tmp_path / "odd")
    (segment,), small, _ = adding("0.onnx", ["a.safetensors"], [1])
    _, large, _ = adding("1.onnx", ["a.safetensors", "b.safetensors"], [1, 1])
    layers = [(GRAPH_RAW, small, "0.onnx"), (WEIGHT_RAW, segment, "a.safetensors"), (GRAPH_RAW, large, "1.onnx")]
    write(layout, "latest", [*layers, (WEIGHT_RAW, segment, "b.safetensors")], [(3, "0.onnx"), (5, "1.onnx")])
    return layout.path


def test_another_version_takes_the_bytes_from_where_this_one_has_them(moved: Path, tmp_path: Path) -> None:
    with serving(moved) as url:
        fetch(f"{url}/odd:v1", tmp_path / "m")
        result = upgrade(tmp_path / "m", Request(reference="v2"))
    segment = (tmp_path / "m" / "b.safetensors").stat().st_size
    assert result.bytes_reused >= segment
    assert not (tmp_path / "m" / "a.safetensors").exists()
    assert verify_model(tmp_path / "m") == []
    with Model.open(tmp_path / "m") as model:
        assert np.array_equal(model.run(INPUT)["y"], INPUT @ adding("g.onnx", ["x"], [1])[2])


@pytest.mark.parametrize("at_once", [True, False])
def test_bytes_that_stand_at_two_paths_are_put_at_both(twice: Path, tmp_path: Path, at_once: bool) -> None:
    assert verify_package(twice) == []
    with serving(twice) as url:
        if not at_once:
            assert fetch(f"{url}/odd", tmp_path / "m", Request(max_macs=16)).configuration == 0
            assert verify_model(tmp_path / "m") == []
            upgrade(tmp_path / "m")
        else:
            fetch(f"{url}/odd", tmp_path / "m")
    product = adding("g.onnx", ["x"], [1])[2]
    with Model.open(tmp_path / "m") as model:
        assert model.configuration == 1
        assert np.array_equal(model.run(INPUT)["y"], INPUT @ product @ product)
        assert np.array_equal(model.run(INPUT, 0)["y"], INPUT @ product)
    assert verify_model(tmp_path / "m") == []
    shed(tmp_path / "m", 0)
    assert verify_model(tmp_path / "m") == []


def test_a_plan_does_not_send_the_same_bytes_for_another_path(twice: Path) -> None:
    layout = Layout.open(twice)
    manifest = layout.manifest()
    ladder = layout.ladder(manifest)
    plan = make_plan("odd", manifest, ladder, Request(held=Held(manifest.digest, 0)))
    assert plan.configuration == 1
    assert [layer.digest for layer in plan.layers] == [manifest.layers[3].digest]
    assert plan.bytes_to_send == manifest.layers[3].size
    assert plan.ranges == ((manifest.offsets[3], manifest.offsets[4] - 1),)


def test_a_folder_of_an_earlier_program_gets_the_second_path(twice: Path, tmp_path: Path) -> None:
    with serving(twice) as url:
        fetch(f"{url}/odd", tmp_path / "m")
        state = json.loads((tmp_path / "m" / "state.json").read_bytes())
        del state["files"]["b.safetensors"]
        (tmp_path / "m" / "state.json").write_text(json.dumps(state))
        (tmp_path / "m" / "b.safetensors").unlink()
        result = upgrade(tmp_path / "m")
    assert result.configuration == 1
    assert verify_model(tmp_path / "m") == []


def test_a_file_is_held_against_the_manifest_and_not_only_against_the_state(moved: Path, tmp_path: Path) -> None:
    with serving(moved) as url:
        fetch(f"{url}/odd:v1", tmp_path / "m")
        place = tmp_path / "m" / "a.safetensors"
        data = bytearray(place.read_bytes())
        data[-1] ^= 1
        place.write_bytes(data)
        state = json.loads((tmp_path / "m" / "state.json").read_bytes())
        state["files"]["a.safetensors"]["sha256"] = sha256_digest(bytes(data))
        (tmp_path / "m" / "state.json").write_text(json.dumps(state))
        assert any("a.safetensors" in problem for problem in verify_model(tmp_path / "m"))
        with Model.open(tmp_path / "m") as model, pytest.raises(DigestError, match="not what was promised"):
            model.run(INPUT)
        fetch(f"{url}/odd:v1", tmp_path / "m")
    assert verify_model(tmp_path / "m") == []
