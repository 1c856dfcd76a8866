from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from accordion.errors import UsageError
from accordion.packaging.codecs import PRECISIONS, Builder, Codec, Integer, Part, by_name, encode_planes, quantize
from accordion.packaging.codecs.compensation import compensate
from accordion.packaging.codecs.sparse import Sparse
from accordion.packaging.graph import Graph, Pool

CODECS: dict[str, Codec] = {f"{name} {k + 1}": codec for name, one in PRECISIONS.items() for k, codec in enumerate(one.planes)}
SHAPES = [(4, 3, 3, 3), (5, 7), (3, 1), (6, 2, 3, 3)]


def weight_of(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    made = (rng.standard_normal(shape) * rng.uniform(0.01, 0.3, (shape[0], *[1] * (len(shape) - 1)))).astype(np.float32)
    made[0] = 0  # a channel that was pruned away
    return made


def rebuilt(codec: Codec, parts: dict[str, Part], shape: tuple[int, ...]) -> np.ndarray:
    """What ONNX Runtime makes of the nodes, in a graph that has nothing else to do."""
    graph = Graph([], [], [], 17, 8)
    build = Builder(graph, Pool())
    names = {role: build.tensor(part.array, role) for role, part in parts.items()}
    value = codec.rebuild(build, names, shape)
    nodes = [*build.nodes, helper.make_node("Identity", [value], ["value"])]
    tensors = [numpy_helper.from_array(array, name) for name, array in graph.tensors.items()]
    output = helper.make_tensor_value_info("value", TensorProto.FLOAT, ["m", *shape[1:]])
    model = helper.make_model(
        helper.make_graph(nodes, "g", [], [output], tensors), opset_imports=[helper.make_opsetid("", 17)], ir_version=8
    )
    onnx.checker.check_model(model)
    (found,) = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {})
    return found


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS.keys())
def test_the_nodes_give_the_stated_value_bit_for_bit(codec: Codec, shape: tuple[int, ...]) -> None:
    encoded = codec.encode(weight_of(shape))
    found = rebuilt(codec, dict(encoded.parts), shape)
    assert found.dtype == np.float32 and found.shape == shape
    np.testing.assert_array_equal(found, encoded.value)


@pytest.mark.parametrize("name", [name for name, codec in CODECS.items() if codec.joins])
def test_parts_laid_one_behind_the_other_are_rebuilt_at_once(name: str) -> None:
    codec = CODECS[name]
    shape = (4, 3, 3, 3)
    made = [codec.encode(weight_of(shape, seed)) for seed in (1, 2, 3)]
    joined = {role: Part(np.concatenate([one.parts[role].array for one in made])) for role in made[0].parts}
    np.testing.assert_array_equal(rebuilt(codec, joined, shape), np.concatenate([one.value for one in made]))


@pytest.mark.parametrize("name", list(PRECISIONS))
def test_how_far_off_a_precision_may_be(name: str) -> None:
    weight = weight_of((6, 8, 3, 3), 5)
    value = np.sum([one.value for one in encode_planes(by_name(name), weight)], axis=0, dtype=np.float32)
    off = np.abs(value - weight) / np.abs(weight).max(axis=(1, 2, 3), keepdims=True).clip(1e-9)
    most = {"float32": 0, "float16": 2**-11, "bfloat16": 2**-8, "float8": 2**-4, "int8": 2**-7, "int4": 0.3}
    most |= {"sparse8": 2**-7, "sparse4": 0.3, "lowrank8": 2**-6}
    limit = most.get(name, 2**-6 if name == "int4+4" else 2**-13)
    assert off.max() <= limit
    assert np.all(value[0] == 0)


def test_each_plane_takes_up_what_was_left() -> None:
    weight = weight_of((8, 16, 3, 3), 7)
    so_far = np.zeros_like(weight)
    errors = []
    for one in encode_planes(by_name("int4+4+8"), weight):
        so_far = so_far + one.value
        errors.append(float(np.abs(weight - so_far).max()))
    assert errors[1] < errors[0] / 4 and errors[2] < errors[1] / 50


def test_codes_take_the_bytes_that_their_bits_need() -> None:
    weight = weight_of((6, 5, 3, 3))
    four, eight = (Integer(bits).encode(weight).parts for bits in (4, 8))
    assert four["codes"].array.shape == (6, 23) and eight["codes"].array.shape == (6, 45)  # 45 codes, two a byte
    assert four["scales"].array.dtype == np.float16


def test_no_scale_and_no_sign_that_is_tried_is_better() -> None:
    rows = weight_of((7, 30), 3)
    stored, codes = quantize(rows, 4)
    scales = stored.astype(np.float32) * np.float32(2.0**-8)
    found = ((rows - codes * scales[:, None]) ** 2).sum(axis=1)
    for side in (-1, 1):
        plain = side * np.abs(rows).max(axis=1, keepdims=True).clip(1e-9) / 8
        rounded = np.clip(np.rint(rows / plain), -8, 7) * plain
        assert np.all(found <= ((rows - rounded) ** 2).sum(axis=1) * 1.001 + 1e-12)


def test_compensated_codes_change_less_of_what_the_layer_gives() -> None:
    rng = np.random.default_rng(11)
    mixed = rng.standard_normal((40, 40)).astype(np.float32)
    x = np.maximum(rng.standard_normal((2000, 40)).astype(np.float32) @ mixed, 0)  # inputs that go together, as in a network
    hessian = (x.T @ x / len(x)).astype(np.float64)
    rows = weight_of((12, 40), 4)
    stored, nearest = quantize(rows, 4)
    scales = stored.astype(np.float32) * np.float32(2.0**-8)
    compensated = compensate(rows, scales, 4, hessian)
    assert compensated.min() >= -8 and compensated.max() <= 7
    lost = [float((((rows - codes * scales[:, None]) @ x.T) ** 2).mean()) for codes in (nearest, compensated)]
    assert lost[1] < 0.7 * lost[0]


def test_compensation_brings_no_pruned_weight_back_and_still_helps() -> None:
    rng = np.random.default_rng(12)
    mixed = rng.standard_normal((40, 40)).astype(np.float32)
    x = np.maximum(rng.standard_normal((2000, 40)).astype(np.float32) @ mixed, 0)
    hessian = (x.T @ x / len(x)).astype(np.float64)
    rows = weight_of((12, 40), 4)
    rows[np.abs(rows) < np.quantile(np.abs(rows), 0.75)] = 0
    for codec in (Integer(4), Sparse(4)):
        compensated, nearest = (codec.encode(rows, known).value for known in (hessian, None))
        assert (compensated[rows == 0] == 0).all() and (compensated[rows != 0] != 0).any()
        lost = [float((((rows - value) @ x.T) ** 2).mean()) for value in (nearest, compensated)]
        assert lost[1] < 0.9 * lost[0], codec.name


def test_inputs_that_never_occur_do_no_harm() -> None:
    rows = weight_of((4, 10), 6)
    hessian = np.zeros((10, 10))
    hessian[:3, :3] = np.eye(3)
    encoded = Integer(4).encode(rows, hessian)
    assert np.isfinite(encoded.value).all()
    assert np.isfinite(Integer(4).encode(rows, np.zeros((10, 10))).value).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_weights_that_are_no_numbers_are_refused(bad: float) -> None:
    weight = weight_of((4, 4))
    weight[1, 1] = bad
    with pytest.raises(UsageError, match="no finite numbers"):
        encode_planes(by_name("int8"), weight)


@pytest.mark.parametrize("name", list(PRECISIONS))
@pytest.mark.parametrize("size", [1e-30, 1e30])
def test_weights_beyond_a_types_range_stay_numbers(name: str, size: float) -> None:
    weight = (weight_of((3, 8), 2) * np.float32(size / 0.3)).astype(np.float32)
    assert all(np.isfinite(one.value).all() for one in encode_planes(by_name(name), weight))


def test_an_unknown_precision_names_those_that_there_are() -> None:
    with pytest.raises(UsageError, match=r"choose float32, .*int4\+4"):
        by_name("int3")
