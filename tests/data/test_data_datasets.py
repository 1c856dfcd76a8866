from __future__ import annotations

import gzip
import io
import shutil
import tarfile
import urllib.error
import zipfile
from pathlib import Path

import numpy as np
import pytest

from accordion.data import Dataset, available, datasets, load
from accordion.errors import AccordionError, ContentError, DigestError, FormatError, TransferError, UsageError


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load("digits")


def write_tar(path: Path, files: dict[str, bytes]) -> None:
    with tarfile.open(path, "w:gz") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))


def cifar_rows() -> np.ndarray:
    """Three pictures of two classes as CIFAR-10's files have them: the label, then the pixels."""
    rows = np.random.default_rng(1).integers(0, 10, (3, 1 + 3072), dtype=np.uint8)
    rows[:, 0] %= 2
    return rows


@pytest.fixture
def tar(tmp_path: Path) -> Path:
    """An archive in CIFAR-10's canonical form, with three pictures a file that nobody published."""
    rows = cifar_rows().tobytes()
    path = tmp_path / "cifar-10-binary.tar.gz"
    names = [*(f"data_batch_{n}.bin" for n in range(1, 6)), "test_batch.bin"]
    write_tar(path, {**dict.fromkeys(names, rows), "batches.meta.txt": b"cat\ndog\n"})
    return path


def test_digits_have_one_channel_and_ten_classes(digits: Dataset) -> None:
    assert digits.classes == tuple("0123456789")
    assert (digits.train.x.shape, digits.test.x.shape) == ((1438, 1, 8, 8), (359, 1, 8, 8))
    assert (digits.train.x.dtype, digits.train.y.dtype) == (np.uint8, np.int64)


def test_digits_use_the_whole_range_of_brightness(digits: Dataset) -> None:
    assert (digits.train.x.min(), digits.train.x.max()) == (0, 255)


def test_digits_have_every_class_in_both_splits(digits: Dataset) -> None:
    assert set(digits.train.y) == set(digits.test.y) == set(range(10))


def test_mean_and_deviation_are_those_of_the_training_pixels(digits: Dataset) -> None:
    assert digits.mean == pytest.approx([digits.train.x.mean() / 255], abs=1e-4)
    assert digits.std == pytest.approx([digits.train.x.std() / 255], abs=1e-4)


def test_a_mirrored_digit_is_another_digit(digits: Dataset) -> None:
    assert not digits.mirror


def test_held_out_rows_are_disjoint_and_complete(digits: Dataset) -> None:
    numbered = Dataset(
        "numbered",
        digits.classes,
        digits.mean,
        digits.std,
        datasets.Split(np.arange(len(digits.train), dtype="<u8").view(np.uint8).reshape(-1, 1, 8, 1), digits.train.y),
        datasets.Split(np.zeros((1, 1, 8, 1), np.uint8), digits.test.y[:1]),
    )
    train, validation = (set(split.x.reshape(-1).view("<u8").tolist()) for split in numbered.hold_out())
    assert not train & validation
    assert train | validation == set(range(len(digits.train)))


def test_holding_out_twice_gives_the_same_rows(digits: Dataset) -> None:
    one, other = digits.hold_out()[1], load("digits").hold_out()[1]
    assert np.array_equal(one.x, other.x)
    assert np.array_equal(one.y, other.y)


@pytest.mark.parametrize("fraction", [0.1, 0.25])
def test_the_same_share_of_each_class_is_held_out(digits: Dataset, fraction: float) -> None:
    _, validation = digits.hold_out(fraction)
    assert np.bincount(validation.y).tolist() == [round(n * fraction) for n in np.bincount(digits.train.y).tolist()]


@pytest.mark.skipif(not available("cifar10"), reason="CIFAR-10 is not on this machine and tests download nothing")
def test_cifar10_has_the_published_pictures() -> None:
    data = load("cifar10", download=False)
    assert (data.train.x.shape, data.test.x.shape) == ((50_000, 3, 32, 32), (10_000, 3, 32, 32))
    assert len(data.classes) == 10
    # 5,000 and 1,000 pictures a class.
    assert np.bincount(data.train.y).tolist() == [5000] * 10
    assert np.bincount(data.test.y).tolist() == [1000] * 10
    assert data.mean == pytest.approx([float(data.train.x[:, c].mean()) / 255 for c in range(3)], abs=1e-4)


def test_an_unknown_data_set_is_refused() -> None:
    for call in (load, available):
        with pytest.raises(UsageError, match=r"'mnist'.*digits, cifar10, cifar100 or a file of your own"):
            call("mnist")


def test_digits_need_no_download() -> None:
    assert available("digits")


def test_a_folder_without_the_data_set_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"no cifar10 in {tmp_path}"):
        load("cifar10", folder=tmp_path)


def test_accordion_data_names_the_only_folder_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCORDION_DATA", str(tmp_path))
    assert datasets.folders() == [tmp_path]
    assert not available("cifar10")
    with pytest.raises(UsageError, match="ACCORDION_DATA"):
        load("cifar10", download=False)


def test_an_archive_in_the_folder_is_available(tar: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCORDION_DATA", str(tar.parent))
    assert available("cifar10")


def test_pictures_that_are_not_the_published_ones_are_refused(tar: Path) -> None:
    with pytest.raises(DigestError, match="pictures of cifar10 are not the published ones"):
        load("cifar10", folder=tar.parent)


def test_a_tar_with_the_right_pixels_loads(tar: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The published tar is 170 MB; here the digests are those of the small one.
    rows = cifar_rows()
    chw = rows[:, 1:].reshape(3, 3, 32, 32)
    pixels = np.ascontiguousarray(chw.transpose(0, 2, 3, 1)).tobytes()
    digests = {"train": datasets.hashlib.sha256(pixels * 5).hexdigest(), "test": datasets.hashlib.sha256(pixels).hexdigest()}
    monkeypatch.setitem(datasets._CIFAR["cifar10"].pixels, "train", digests["train"])
    monkeypatch.setitem(datasets._CIFAR["cifar10"].pixels, "test", digests["test"])
    data = load("cifar10", folder=tar.parent)
    assert data.classes == ("cat", "dog")
    assert np.array_equal(data.test.x, chw)
    assert np.array_equal(data.train.y, np.tile(rows[:, 0], 5))


@pytest.mark.parametrize("kept", [0, 5, 300, 4000, -20, -9])
def test_a_truncated_tar_is_an_error_of_the_content(tar: Path, kept: int) -> None:
    tar.write_bytes(tar.read_bytes()[:kept])
    with pytest.raises(ContentError):
        load("cifar10", folder=tar.parent)


@pytest.mark.parametrize("seed", range(12))
def test_a_tar_with_damaged_bytes_is_an_error_of_the_content(tar: Path, seed: int) -> None:
    data = bytearray(tar.read_bytes())
    rng = np.random.default_rng(seed)
    for position in rng.integers(10, len(data), 8):
        data[position] ^= int(rng.integers(1, 256))
    tar.write_bytes(data)
    with pytest.raises(ContentError):
        load("cifar10", folder=tar.parent)


def test_a_tar_without_a_member_is_refused(tar: Path) -> None:
    write_tar(tar, {"batches.meta.txt": b"cat\n"})
    with pytest.raises(FormatError, match="not a readable CIFAR archive"):
        load("cifar10", folder=tar.parent)


def test_a_tar_with_half_a_picture_is_refused(tar: Path) -> None:
    names = [*(f"data_batch_{n}.bin" for n in range(1, 6)), "test_batch.bin"]
    write_tar(tar, {**dict.fromkeys(names, bytes(1000)), "batches.meta.txt": b"cat\n"})
    with pytest.raises(FormatError, match="not a readable CIFAR archive"):
        load("cifar10", folder=tar.parent)


def zips(folder: Path) -> list[Path]:
    """Archives of sheets with the right members and too few pictures."""
    labels = io.BytesIO()
    np.save(labels, np.zeros(1000, dtype=np.int64))
    sheet = io.BytesIO()
    from PIL import Image

    Image.fromarray(np.random.default_rng(1).integers(0, 256, (40 * 32, 25 * 32, 3), dtype=np.uint8)).save(
        sheet, "webp", lossless=True, method=0
    )
    paths = [folder / f"cifar10-{split}.zip" for split in ("train", "test")]
    with zipfile.ZipFile(paths[0], "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("labels.npy", labels.getvalue())
        archive.writestr("classes.txt", "cat dog")
        archive.writestr("000.webp", sheet.getvalue())
    shutil.copy(paths[0], paths[1])
    return paths


def test_sheets_that_are_not_the_published_ones_are_refused(tmp_path: Path) -> None:
    zips(tmp_path)
    with pytest.raises(DigestError):
        load("cifar10", folder=tmp_path)


@pytest.mark.parametrize("where", ["labels.npy", "000.webp"])
def test_a_zip_with_damaged_bytes_is_an_error_of_the_content(tmp_path: Path, where: str) -> None:
    path = zips(tmp_path)[0]
    data = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        begin = archive.getinfo(where).header_offset + 30 + len(where)
    data[begin : begin + 8] = b"\xff" * 8
    path.write_bytes(data)
    with pytest.raises(ContentError):
        load("cifar10", folder=tmp_path)


@pytest.mark.parametrize(
    "members",
    [{}, {"labels.npy": b""}, {"labels.npy": b"junk", "000.webp": b"junk"}, {"000.webp": b"RIFF"}],
    ids=["empty", "no sheets", "junk", "no labels"],
)
def test_a_zip_with_the_wrong_members_is_an_error_of_the_content(tmp_path: Path, members: dict[str, bytes]) -> None:
    for path in zips(tmp_path):
        with zipfile.ZipFile(path, "w") as archive:
            for name, data in members.items():
                archive.writestr(name, data)
    with pytest.raises(ContentError):
        load("cifar10", folder=tmp_path)


def test_a_zip_without_class_names_is_an_error_of_the_content(tmp_path: Path) -> None:
    for path in zips(tmp_path):
        kept = {}
        with zipfile.ZipFile(path) as archive:
            kept = {name: archive.read(name) for name in archive.namelist() if name != "classes.txt"}
        with zipfile.ZipFile(path, "w") as archive:
            for name, data in kept.items():
                archive.writestr(name, data)
    with pytest.raises(ContentError):
        load("cifar10", folder=tmp_path)


def test_a_zip_that_is_none_is_an_error_of_the_content(tmp_path: Path) -> None:
    for path in zips(tmp_path):
        path.write_bytes(gzip.compress(b"no zip"))
    with pytest.raises(FormatError, match="not a readable archive"):
        load("cifar10", folder=tmp_path)


def test_no_data_and_no_network_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(url: str, target: Path) -> None:
        target.write_bytes(b"begun")
        raise urllib.error.URLError("no route")

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(TransferError, match="Set ACCORDION_DATA"):
        datasets._download(datasets._CIFAR["cifar10"], refuse)
    assert not list((tmp_path / "accordion").iterdir())


def test_a_download_with_other_bytes_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(AccordionError, match="arrived with MD5"):
        datasets._download(datasets._CIFAR["cifar10"], lambda url, target: target.write_bytes(b"a login page"))
    assert not list((tmp_path / "accordion").iterdir())
