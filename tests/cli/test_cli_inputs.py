import dataclasses
import io

import numpy as np
import pytest
from PIL import Image

from accordion.artifact.tensor_spec import TensorSpec
from accordion.cli.inputs import read_inputs
from accordion.errors import FormatError, UsageError

PICTURE = TensorSpec("input", "float32", ("n", 1, 8, 8), "NCHW", (0.0, 1.0))
TOKENS = TensorSpec("tokens", "int64", ("n", "t"))
CACHE = TensorSpec("cache", "float32", (2, 3))


def test_one_example_or_several_become_one_batch(tmp_path):
    np.save(tmp_path / "one.npy", np.zeros((1, 8, 8), np.float32))
    np.save(tmp_path / "two.npy", np.ones((2, 1, 8, 8), np.float64))
    batch = read_inputs([str(tmp_path / "one.npy"), str(tmp_path / "two.npy")], [PICTURE])["input"]
    assert batch.shape == (3, 1, 8, 8)
    assert batch.dtype == np.float32
    assert batch.sum() == 2 * 64


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB")])
def test_a_picture_is_scaled_to_size_and_range(tmp_path, channels, mode):
    Image.new(mode, (16, 16), 255 if mode == "L" else (255, 0, 0)).save(tmp_path / "x.png")
    spec = TensorSpec("input", "float32", ("n", channels, 8, 8), "NCHW", (-1.0, 1.0))
    batch = read_inputs([str(tmp_path / "x.png")], [spec])["input"]
    assert batch.shape == (1, channels, 8, 8)
    assert (batch[0, 0] == 1.0).all()
    assert (batch[0, 1:] == -1.0).all()


def test_several_inputs_by_name(tmp_path):
    np.save(tmp_path / "t.npy", np.array([[1, 2]]))
    np.savez(tmp_path / "all.npz", tokens=np.array([[1, 2]]), cache=np.zeros((2, 3), np.float32))
    np.save(tmp_path / "c.npy", np.zeros((2, 3), np.float32))
    named = read_inputs([f"tokens={tmp_path / 't.npy'}", f"cache={tmp_path / 'c.npy'}"], [TOKENS, CACHE])
    assert set(named) == {"tokens", "cache"}
    assert set(read_inputs([str(tmp_path / "all.npz")], [TOKENS, CACHE])) == {"tokens", "cache"}
    for wrong in ([str(tmp_path / "t.npy"), f"cache={tmp_path / 'c.npy'}"], [f"tokens={tmp_path / 't.npy'}"]):
        with pytest.raises(UsageError, match=r"Name it as|name it as"):
            read_inputs(wrong, [TOKENS, CACHE])


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((1, 9, 9), np.float32),
        np.zeros((0, 1, 8, 8), np.float32),
        np.full((1, 8, 8), np.nan, np.float32),
        np.full((1, 8, 8), 255, np.uint8),
        np.zeros((1, 8, 8), complex),
        np.zeros(3),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path, array):
    np.save(tmp_path / "x.npy", array)
    with pytest.raises(UsageError, match=r"x\.npy"):
        read_inputs([str(tmp_path / "x.npy")], [PICTURE])


def test_a_type_that_is_none_is_the_ladders_fault(tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((1, 8, 8), np.float32))
    with pytest.raises(FormatError, match="which is no type"):
        read_inputs([str(tmp_path / "x.npy")], [dataclasses.replace(PICTURE, dtype="colour")])


def test_foreign_files_are_refused(tmp_path):
    (tmp_path / "empty.npy").touch()
    (tmp_path / "text.txt").write_text("hello")
    (tmp_path / "x.png").write_bytes(b"no picture")
    (tmp_path / "cut.npz").write_bytes(b"PK\x03\x04")
    np.save(tmp_path / "pickle.npy", np.array([{}], dtype=object), allow_pickle=True)
    (tmp_path / "damaged.npy").write_bytes(
        b"\x93NUMPY\x01\x00\x76\x00{'descr': '<f4', 'fortran_order': False, 'shape': ((((".ljust(128)
    )
    whole = io.BytesIO()
    np.savez_compressed(whole, pixels=np.random.default_rng(0).normal(size=(1, 8, 8)).astype(np.float32))
    content = bytearray(whole.getvalue())
    content[60:90] = b"\xff" * 30  # within what was deflated
    (tmp_path / "deflated.npz").write_bytes(content)
    np.savez(tmp_path / "other.npz", other=np.zeros((1, 8, 8), np.float32))
    for name in (
        "empty.npy",
        "text.txt",
        "x.png",
        "cut.npz",
        "damaged.npy",
        "deflated.npz",
        "pickle.npy",
        "other.npz",
        "missing",
        ".",
    ):
        with pytest.raises(UsageError) as caught:
            read_inputs([str(tmp_path / name)], [PICTURE])
        assert "\n" not in str(caught.value)
    np.save(tmp_path / "c.npy", np.zeros((2, 3), np.float32))
    with pytest.raises(UsageError, match="takes one file"):
        read_inputs([str(tmp_path / "c.npy")] * 2, [CACHE])
    Image.new("L", (8, 8)).save(tmp_path / "real.png")
    with pytest.raises(UsageError, match="no place"):
        read_inputs([str(tmp_path / "real.png")], [CACHE])
