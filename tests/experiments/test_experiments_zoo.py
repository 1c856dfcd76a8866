from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from accordion.artifact.build import ConfigurationParts, build_version
from accordion.artifact.layout import Layout
from accordion.artifact.manifest import WEIGHT_RAW
from accordion.artifact.segment import encode_segment
from accordion.data import Dataset, load
from accordion.errors import DigestError, FormatError, StorageError, UsageError
from experiments.outcome import Outcome
from experiments.run import Run
from experiments.zoo import duplicates
from experiments.zoo.corruptions import CORRUPTIONS
from experiments.zoo.evaluate import evaluate
from experiments.zoo.reader import lay_out
from experiments.zoo.record import CLEAN, FOLDER, PURGED, VALIDATION, read_evaluation, read_evaluations


@pytest.fixture
def package(finished: tuple[Path, Outcome], digits_run: Run) -> Path:
    return finished[0] / "runs" / digits_run.name / "package"


def test_plain_onnx_runtime_finds_what_the_outcome_says(package: Path, finished: tuple[Path, Outcome], tmp_path: Path) -> None:
    duplicates.write(tmp_path, "digits", [0, 7, 300])
    path = evaluate(package, tmp_path, samples=40, threads=1)
    found = read_evaluation(path)
    for row, configuration in zip(found.rows, finished[1].configurations, strict=True):
        assert (row.blocks_by_stage, row.bytes, row.macs) == (
            configuration.blocks_by_stage,
            configuration.package_bytes,
            configuration.macs,
        )
        # One picture may fall to the other side of a tie by rounding.
        assert abs(row.results[CLEAN].wrong - configuration.test.wrong) <= 1
        assert abs(row.results[VALIDATION].wrong - configuration.validation.wrong) <= 1
        assert row.stated_error == pytest.approx(configuration.test.error, abs=1e-6)
        assert row.results[PURGED].of == row.results[CLEAN].of - 3
        assert 0 <= row.results[CLEAN].wrong - row.results[PURGED].wrong <= 3
        assert all(row.results[corruption.name].of == 40 for corruption in CORRUPTIONS)
    assert read_evaluations(tmp_path) == [found]


def test_what_was_evaluated_is_not_evaluated_again(package: Path, tmp_path: Path) -> None:
    evaluate(package, tmp_path, samples=10, clean_samples=20, threads=1)
    before = read_evaluation(tmp_path / "package.json")
    said: list[str] = []
    evaluate(package, tmp_path, samples=10, clean_samples=20, threads=1, progress=said.append)
    assert said == [] and read_evaluation(tmp_path / "package.json") == before
    evaluate(package, tmp_path, samples=12, clean_samples=20, threads=1, progress=said.append)
    assert len(said) == 3 * len(CORRUPTIONS)


def test_a_list_of_duplicates_that_comes_later_counts(package: Path, tmp_path: Path) -> None:
    evaluate(package, tmp_path, samples=10, clean_samples=20, threads=1)
    assert all(PURGED not in row.results for row in read_evaluation(tmp_path / "package.json").rows)
    kept = []
    for twins in ([0], [*range(60)]):
        duplicates.write(tmp_path, "digits", twins)
        evaluate(package, tmp_path, samples=10, clean_samples=20, threads=1)
        rows = read_evaluation(tmp_path / "package.json").rows
        assert {row.results[CLEAN].of for row in rows} == {20}
        kept.append({row.results[PURGED].of for row in rows})
    assert kept[0] == {19} and len(kept[1]) == 1 and max(kept[1]) < 19


def test_what_was_found_stands_for_the_same_files_in_other_layers(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluate(package, tmp_path, samples=10, clean_samples=20, threads=1)
    before = read_evaluation(tmp_path / "package.json")
    layout = Layout.open(package)
    manifest = layout.manifest()
    parts, last = [], 0
    contents = lay_out(package, tmp_path / "files")
    for rung in contents.ladder["configurations"]:
        segments = [layer for layer in manifest.layers[last : rung["layers"]] if layer.media_type == WEIGHT_RAW]
        last = rung["layers"]
        files = {str(one.path): layout.blob_path(one.digest).read_bytes() for one in segments}
        parts.append(ConfigurationParts(rung["graph"], (tmp_path / "files" / rung["graph"]).read_bytes(), files))
    for archives in ([1] * len(parts), [len(parts)]):
        other = Layout.create(tmp_path / str(len(archives)) / "package")
        build_version(other, "latest", ladder_fields=contents.ladder, configurations=parts, archives=archives)
    divided = next(path for path in tmp_path.glob("*/package") if Layout.open(path).manifest().digest != manifest.digest)
    monkeypatch.setattr("experiments.zoo.evaluate._wrong", lambda *_: pytest.fail("it is run again"))
    evaluate(divided, tmp_path, samples=10, clean_samples=20, threads=1, earlier=package)
    found = read_evaluation(tmp_path / "package.json")
    assert found.manifest != before.manifest and [row.results for row in found.rows] == [row.results for row in before.rows]
    assert [row.bytes for row in found.rows] == [
        one.bytes for one in Layout.open(divided).ladder(Layout.open(divided).manifest()).configurations
    ]
    with pytest.raises(UsageError, match="not of"):
        evaluate(divided, tmp_path, threads=1, earlier=package)
    parts[0] = ConfigurationParts(parts[0].graph_path, parts[0].graph, {**parts[0].segments, "z.safetensors": encode_segment({})})
    with pytest.raises(UsageError, match=r"other graphs or other weights"):
        shutil.rmtree(tmp_path / "1" / "package")
        build_version(Layout.create(tmp_path / "1" / "package"), "latest", ladder_fields=contents.ladder, configurations=parts)
        evaluate(tmp_path / "1" / "package", tmp_path, threads=1, earlier=divided)


def test_a_package_is_read_by_the_specification_and_checked(package: Path, tmp_path: Path) -> None:
    contents = lay_out(package, tmp_path / "files")
    assert (tmp_path / "files" / contents.ladder["configurations"][0]["graph"]).is_file()
    with pytest.raises(StorageError, match=r"no package: .*index\.json"):
        lay_out(tmp_path, tmp_path / "nothing")
    with pytest.raises(FormatError, match="no package"):
        lay_out(package, tmp_path / "nothing", tag="no-such-tag")
    shutil.copytree(package, tmp_path / "broken")
    manifest = json.loads((package / "index.json").read_bytes())["manifests"][0]["digest"].removeprefix("sha256:")
    blob = tmp_path / "broken" / "blobs" / "sha256" / manifest
    blob.write_bytes(blob.read_bytes() + b" ")
    with pytest.raises(DigestError, match="other bytes"):
        lay_out(tmp_path / "broken", tmp_path / "nothing")


@pytest.mark.parametrize("corruption", CORRUPTIONS, ids=lambda corruption: corruption.name)
def test_corruptions_are_the_same_for_everyone(corruption: object) -> None:
    apply = corruption.apply  # type: ignore[attr-defined]
    test = load("digits").test
    rows = np.arange(12)
    once = apply(test.x[rows], rows)
    assert once.dtype == np.uint8 and once.shape == test.x[rows].shape
    assert np.array_equal(once, apply(test.x[rows], rows))
    assert not np.array_equal(once, test.x[rows])
    # A sample gets what the whole split gets.
    assert np.array_equal(once[5:7], apply(test.x[5:7], rows[5:7]))


def test_stronger_levels_change_more() -> None:
    test = load("digits").test
    rows = np.arange(50)
    changed = {c.name: float(np.abs(c.apply(test.x[rows], rows).astype(int) - test.x[rows]).mean()) for c in CORRUPTIONS}
    for weak, strong in (
        ("noise-0.04", "noise-0.12"),
        ("blur-0.6", "blur-1"),
        ("contrast-0.5", "contrast-0.25"),
        ("jpeg-50", "jpeg-20"),
    ):
        assert 0 < changed[weak] < changed[strong]


def test_a_copy_of_a_training_picture_is_found(tmp_path: Path) -> None:
    digits = load("digits")
    train, test = digits.train.take(np.arange(100)), digits.test.take(np.arange(20))
    copies = test.x.copy()
    copies[4] = np.clip(train.x[17].astype(int) * 0.8 + 20, 0, 255)  # of other brightness and contrast
    copies[9] = train.x[30][..., ::-1]  # mirrored
    planted = Dataset("digits", digits.classes, digits.mean, digits.std, train, type(test)(copies, test.y), mirror=True)
    best, rows = duplicates.nearest(planted)
    assert best[[4, 9]] == pytest.approx(1, abs=1e-3)
    assert (rows[4], rows[9]) == (17, 30)
    assert {4, 9} <= set(duplicates.find(planted))
    unmirrored = Dataset("digits", digits.classes, digits.mean, digits.std, train, type(test)(copies, test.y), mirror=False)
    assert duplicates.nearest(unmirrored)[0][9] < best[9]


def test_a_list_of_another_rule_is_refused(tmp_path: Path) -> None:
    assert duplicates.read(tmp_path, "digits") is None
    path = duplicates.write(tmp_path, "digits", list(range(60)))
    assert duplicates.read(tmp_path, "digits") == list(range(60))
    path.write_text(path.read_text().replace(str(duplicates.THRESHOLD), "0.5"))
    with pytest.raises(FormatError, match="another rule"):
        duplicates.read(tmp_path, "digits")


@pytest.mark.parametrize("path", sorted(FOLDER.glob("duplicates-*.json")), ids=lambda path: path.stem)
def test_the_committed_lists_are_rows_of_the_test_split(path: Path) -> None:
    rows = duplicates.read(FOLDER, path.stem.removeprefix("duplicates-"))
    assert rows and rows == sorted(set(rows)) and rows[0] >= 0 and rows[-1] < 10_000
