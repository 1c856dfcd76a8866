from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from comparing import comparison, done
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import prune

from accordion.data import load
from accordion.elastic import CifarResNet
from accordion.errors import UsageError
from accordion.training import RunDirectory, TrainingConfig
from experiments.comparisons.bases import listed_run, shape_of, training_of
from experiments.comparisons.context import Context
from experiments.comparisons.execute import execute
from experiments.comparisons.files import Piece, Session, encoded, folded, ship, without_unused
from experiments.comparisons.methods import METHODS
from experiments.comparisons.methods.bit_planes import PLANES, in_planes
from experiments.comparisons.methods.common import ROUNDING
from experiments.comparisons.methods.distilled import SOFT, TEMPERATURE, distillation
from experiments.comparisons.methods.exits import LEAVE, Exits, leave, places, thresholds
from experiments.comparisons.methods.low_rank import decomposed, rank_for
from experiments.comparisons.methods.pruned import SparseFloat, cut
from experiments.comparisons.methods.skipping import gated, reward
from experiments.comparisons.methods.student_first import MIXED, WAYS, StudentFirst
from experiments.comparisons.outcome import Result, Row, read_result


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("comparisons")


def check_files(result: Result, folder: Path) -> None:
    """Sizes and digests again, from the files themselves."""
    files = folder / "runs" / "comparisons" / result.name / "files"
    for row in result.rows:
        for file in row.files:
            (path,) = [path for path in files.rglob(file.name) if hashlib.sha256(path.read_bytes()).hexdigest() == file.sha256][:1]
            assert path.stat().st_size == file.bytes
    assert read_result(folder / "data" / f"{result.name}.json") == result


def labels(rows: Sequence[Row]) -> list[str]:
    return [row.label for row in rows]


def test_the_plain_network(folder: Path) -> None:
    result = done("plain", "float32", folder)
    (row,) = result.rows
    check_files(result, folder)
    # 4, 8 and 16 channels: two convolutions a block, norms with scale and shift, the input layer, the head.
    parameters = 9 * 4 + 8 + sum(2 * (9 * w * w + 2 * w) for w in (4, 8, 16)) + 16 * 10 + 10
    assert (row.parameters, row.test.of, row.validation.of) == (parameters, 359, 144)
    assert row.macs == 9 * 4 * 64 + sum(2 * 9 * w * w * (8 >> n) ** 2 for n, w in enumerate((4, 8, 16))) + 160
    assert row.bytes < 4 * parameters * 1.25 and row.test.error < 0.7
    assert result.training.macs == pytest.approx(3 * row.macs * 1293 * 3, rel=0.01)
    assert result.training.base is None


def test_fewer_bits_are_fewer_bytes(folder: Path) -> None:
    result = done("quantized", "post-training", folder)
    check_files(result, folder)
    sizes = {row.label.removeprefix("resnet8, "): row.bytes for row in result.rows}
    assert set(sizes) == {"float16", "float8", "int8", "int8 weights and activations", "int4"}
    assert sizes["float16"] > sizes["int8"] > sizes["int4"]
    (plain,) = done("plain", "float32", folder).rows
    errors = {row.label.removeprefix("resnet8, "): row.test.error for row in result.rows}
    for close in ("float16", "int8", "int8 weights and activations"):
        assert errors[close] == pytest.approx(plain.test.error, abs=0.03)
    assert result.training.macs == 0 and result.training.base_macs > 0
    assert result.notes["rounding of int4, chosen on the validation split"] in ("nearest", "compensated")


def test_planes_add_up(folder: Path) -> None:
    result = done("bit-planes", "8-of-2", folder)
    check_files(result, folder)
    assert labels(result.rows) == [f"{bits} bits" for bits in range(2, 17, 2)]
    assert all(one.bytes < other.bytes for one, other in zip(result.rows, result.rows[1:], strict=False))
    (plain,) = done("plain", "float32", folder).rows
    assert result.rows[-1].test == plain.test
    # What is there is not received again: the second plane, its graph, and nothing else.
    new = {file.sha256: file.bytes for file in result.rows[1].files if file not in result.rows[0].files}
    assert result.rows[1].missing(result.rows[0]) == sum(new.values()) and len(new) == 2


def test_planes_are_the_bits_of_one_code() -> None:
    weight = np.random.default_rng(0).normal(size=(3, 5, 3, 3)).astype(np.float32)
    span = float(weight.max() - weight.min())
    total = np.zeros_like(weight)
    for number, part in enumerate(in_planes(weight), 1):
        total = total + part.value
        assert np.abs(total - weight).max() <= span / 4**number / 2 * 1.01 + 1e-5
    assert number == PLANES
    constant = np.full((2, 4), 0.5, np.float32)
    assert np.allclose(sum(part.value for part in in_planes(constant)), 0.5)


def test_smaller_networks_alone(folder: Path) -> None:
    result = done("alone", "resnet8/2", folder)
    check_files(result, folder)
    assert labels(result.rows) == ["resnet8/2, float32", "resnet8/2, int8", "resnet8/2, int4"]
    assert result.rows[2].bytes < result.rows[1].bytes and result.notes[ROUNDING] in ("nearest", "compensated")
    assert result.rows[0].parameters < done("plain", "float32", folder).rows[0].parameters
    assert shape_of("resnet20/2", 16) == ("resnet20", 8) and shape_of("resnet20", 16) == ("resnet20", 16)
    with pytest.raises(UsageError, match="is no network"):
        shape_of("resnet20/x", 16)


def test_pruned_weights_do_not_travel(folder: Path) -> None:
    result = done("pruned", "75", folder)
    check_files(result, folder)
    sparse, small, smallest = result.rows
    assert smallest.bytes < small.bytes and labels(result.rows[2:]) == ["75 % pruned, int4"]
    (plain,) = done("plain", "float32", folder).rows
    convolutions = sum(2 * 9 * w * w for w in (4, 8, 16))
    assert sparse.parameters == plain.parameters - round(0.75 * convolutions)
    assert small.bytes < sparse.bytes < plain.bytes
    # The bits that say where weights are count too.
    assert sparse.bytes > 4 * (convolutions - round(0.75 * convolutions))
    assert result.training.epochs == 1 and result.training.base


def test_cutting_takes_the_smallest_and_goes_on() -> None:
    parts = [nn.Conv2d(1, 4, 1, bias=False), nn.Conv2d(1, 6, 1, bias=False)]
    with torch.no_grad():
        for part, first in zip(parts, (1, 5), strict=True):
            part.weight.copy_(torch.arange(first, first + part.weight.numel()).view_as(part.weight))
            prune.identity(part, "weight")
    cut(parts, 0.3)
    assert [float(part.weight_mask.sum()) for part in parts] == [1, 6]
    cut(parts, 0.2)  # never back
    cut(parts, 0.6)
    assert [part.weight_mask.flatten().tolist() for part in parts] == [[0, 0, 0, 0], [0, 0, 1, 1, 1, 1]]


def test_sparse_floats_lose_nothing() -> None:
    weight = np.random.default_rng(0).normal(size=(3, 5, 3, 3)).astype(np.float32)
    weight[np.abs(weight) < 1] = 0
    found = SparseFloat().encode(weight)
    assert found.parts["codes"].array.size == np.count_nonzero(weight)
    assert found.parts["present"].nbytes == 3 * 6  # 45 places a row, eight a byte


def test_the_control_is_the_plain_network_trained_as_long_as_the_others(folder: Path) -> None:
    result, pruned = done("further", "a third", folder), done("pruned", "75", folder)
    check_files(result, folder)
    (plain,) = done("plain", "float32", folder).rows
    assert (result.rows[0].parameters, result.rows[0].macs) == (plain.parameters, plain.macs)
    assert labels(result.rows) == ["resnet8, float32", "resnet8, int8", "resnet8, int4"]
    assert result.settings["own_steps"] == pruned.settings["own_steps"] and result.training.epochs == pruned.training.epochs


def test_low_rank_is_less_computation(folder: Path) -> None:
    result = done("low-rank", "50", folder)
    check_files(result, folder)
    (plain,) = done("plain", "float32", folder).rows
    assert result.rows[0].parameters < plain.parameters and result.rows[0].macs < plain.macs


def test_decomposition_at_full_rank_is_the_convolution() -> None:
    torch.manual_seed(0)
    conv, x = nn.Conv2d(4, 6, 3, padding=1, bias=False), torch.randn(2, 4, 8, 8)
    with torch.no_grad():
        wanted = conv(x)
        off = [float((decomposed(conv, rank)(x) - wanted).pow(2).mean()) for rank in (2, 6, 12)]
    assert off[0] > off[1] > off[2] and off[2] < 1e-10
    assert rank_for(nn.Conv2d(16, 16, 3), 0.5) == 12  # 96 numbers for each rank, half of 2304


def test_students(folder: Path) -> None:
    result = done("distilled", "resnet8", folder)
    check_files(result, folder)
    assert result.rows[0].family == "distilled students" and result.rows[0].test.error < 0.9
    # The student's three passes and the teacher's one, for the same number of pictures.
    student = result.rows[0].macs
    teacher = done("plain", "float32", folder).rows[0].macs
    assert result.training.macs == pytest.approx((3 * student + teacher) * 1280 * 3, rel=0.06)


def test_distillation_by_hand() -> None:
    student, teacher, y = torch.tensor([[1.0, 0.0]]), torch.tensor([[3.0, 0.0]]), torch.tensor([1])
    p, q = (torch.softmax(one / TEMPERATURE, 1) for one in (teacher, student))
    divergence = float((p * (p / q).log()).sum())
    hard = float(F.cross_entropy(student, y))
    assert float(distillation(student, teacher, y)) == pytest.approx(
        SOFT * TEMPERATURE**2 * divergence + (1 - SOFT) * hard, rel=1e-5
    )


def test_exits(folder: Path) -> None:
    result = done("exits", "2", folder)
    check_files(result, folder)
    first, second, last = result.rows[:3]
    assert labels([first, second, last]) == ["exit 1 of 3", "exit 2 of 3", "exit 3 of 3"]
    assert first.bytes < second.bytes < last.bytes and first.macs < second.macs < last.macs
    thresholds = [row for row in result.rows[3:] if row.family == first.family]
    small = [row for row in result.rows if row.family != first.family]
    assert len(small) == 2 * (3 + len(thresholds)) and small[2].bytes < last.bytes / 2
    assert small[3 + len(thresholds) + 2].bytes < small[2].bytes  # four bits are fewer than eight, also in pieces
    assert {row.bytes for row in thresholds} == {last.bytes}
    assert len(thresholds) == len(LEAVE)
    macs = [row.macs for row in thresholds]
    # Who asks each exit computes their heads: of 4 channels on 8 × 8 pictures and of 8 on 4 × 4. Who leaves at a fixed one does not.
    heads = [9 * w * w * s * s + 10 * w for w, s in ((4, 8), (8, 4))]
    assert macs == sorted(macs, reverse=True) and first.macs <= macs[-1] <= macs[0] <= last.macs + sum(heads)
    assert last.macs < (plain := done("plain", "float32", folder).rows[0].macs) + 1 and last.macs == plain
    # One branch after a block of 4 channels and one after 8: convolution, norm, linear layer.
    assert result.notes["extra parameters"] == sum(9 * w * w + 2 * w + 10 * w + 10 for w in (4, 8))
    assert result.training.base is None


def test_thresholds_let_so_many_leave_at_the_first_exit() -> None:
    logits = np.random.default_rng(0).normal(size=(2000, 10)) * 3
    shares = [float((leave([logits, logits], threshold).exits == 0).mean()) for threshold in thresholds(logits)]
    assert shares == pytest.approx(LEAVE, abs=1e-3)


def test_pictures_leave_where_the_answer_is_sure() -> None:
    sure, unsure = [9.0, 0.0, 0.0], [0.1, 0.0, 0.0]
    logits = [np.array([sure, unsure, unsure]), np.array([unsure, sure, unsure]), np.array([unsure, unsure, unsure])]
    left = leave(logits, 0.1)
    assert left.exits.tolist() == [0, 1, 2]
    assert left.logits.tolist() == [sure, sure, unsure]
    assert leave(logits, 0.0).exits.tolist() == [2, 2, 2] and leave(logits, 1.0).exits.tolist() == [0, 0, 0]


def test_exits_stand_evenly_and_pieces_are_the_network() -> None:
    assert [places(9, count) for count in (1, 2, 4)] == [[4], [3, 6], [2, 4, 5, 7]]
    with pytest.raises(UsageError, match="do not fit"):
        places(3, 4)
    module = CifarResNet(8, 10, widths=(4, 8, 16))
    network = Exits(module, 2, 10).eval()
    x = torch.rand(2, 3, 8, 8)
    with torch.no_grad():
        assert torch.allclose(network(x)[-1], module(x))


def test_student_first(folder: Path) -> None:
    result = done("student-first", "resnet8/2", folder)
    check_files(result, folder)
    floats = result.rows[:4]
    assert [row.bytes for row in floats] == sorted({row.bytes for row in floats})
    (plain,) = done("plain", "float32", folder).rows
    assert floats[-1].test == plain.test  # the whole teacher
    assert result.notes["where replacement begins, chosen on the validation split"] in WAYS
    # The teacher is received on top of the student, unless a device wants it at once; then what joins the two does not travel.
    at_once = result.rows[4]
    assert at_once.label == "the teacher at once" and at_once.test == plain.test
    assert floats[-1].bytes > at_once.bytes > plain.bytes and at_once.missing(floats[-1]) == 0


def test_a_teacher_at_once_has_nothing_of_the_student(tmp_path: Path) -> None:
    torch.manual_seed(0)
    teacher = CifarResNet(14, 10, widths=(8, 16, 32), in_channels=3)  # with colours, the normalisation lies in a file
    network = StudentFirst(CifarResNet(8, 10, widths=(4, 8, 16), in_channels=3), teacher).eval()
    x = torch.rand(2, 3, 8, 8)
    modules = [nn.Sequential(*network.steps(mix)).eval() for mix in WAYS["from the input"]]
    for codec in ("float32", "int8"):
        shipped = ship(encoded(folded([Piece(module, x) for module in modules]), codec), tmp_path / codec)
        once = without_unused(shipped[-1], tmp_path / codec)
        student = next(file for file in shipped[0].files if "safetensors" in file.name)
        assert student in shipped[-1].files and student not in once.files
        assert set(once.files[1:]) == set(shipped[-1].files[1:]) - {student}
        both = [Session(one.graph)(x.numpy())[0] for one in (shipped[-1], once)]
        assert np.array_equal(*both)


def test_mixed_networks_have_what_they_need_between_parts() -> None:
    torch.manual_seed(0)
    teacher = CifarResNet(14, 10, widths=(8, 16, 32))
    network = StudentFirst(CifarResNet(8, 10, widths=(4, 8, 16)), teacher).eval()
    x = torch.rand(2, 3, 8, 8)
    with torch.no_grad():
        outputs = {mix: nn.Sequential(*network.steps(mix))(x) for mix in [*MIXED, (True,) * 3, (False,) * 3]}
        assert torch.allclose(outputs[(True,) * 3], teacher.eval()(x))
        assert torch.allclose(outputs[(False,) * 3], network.student(x))
    assert len(MIXED) == 6 and len(network.steps((True, False, True))) == 5
    # Networks of equal width have nothing in between.
    same = StudentFirst(CifarResNet(8, 10, widths=(8, 16, 32)), teacher)
    assert {name.partition(".")[0] for name in same.state_dict()} == {"student"}
    # The teacher is no part of what learns.
    assert {name.partition(".")[0] for name in network.state_dict()} == {"student", "to_student", "to_teacher"}


def test_skipping(folder: Path) -> None:
    result = done("skipping", "1", folder)
    check_files(result, folder)
    row, small, smallest = result.rows
    assert smallest.bytes < small.bytes < row.bytes / 2
    (plain,) = done("plain", "float32", folder).rows
    used = result.notes["share of pictures for which each block runs"]
    assert len(used) == 3 and all(0 <= share <= 1 for share in used)
    assert row.parameters == plain.parameters + result.notes["extra parameters"] and len(row.files) == 2


def test_gates_and_rewards() -> None:
    network = CifarResNet(8, 10, widths=(4, 8, 16)).eval()
    x = torch.rand(2, 3, 8, 8)
    with torch.no_grad():
        assert torch.allclose(gated(network, x, torch.ones(2, 3)), network(x))
        none = network.head(network.join2(network.join1(network.stem(network.normalise(x)))))
        mixed = gated(network, x, torch.tensor([[1.0, 1.0, 1.0], [0.0, 0.0, 0.0]]))
        assert torch.allclose(mixed, torch.stack([network(x)[0], none[1]]), atol=1e-6)
    found = reward(torch.tensor([True, True, False]), torch.tensor([[1.0, 1.0], [1.0, 0.0], [0.0, 0.0]]), 5.0)
    assert found.tolist() == [0.0, 0.75, -5.0]


def test_ours_is_counted_by_layers(folder: Path) -> None:
    result = done("elastic", "CoML-05", folder)
    trained = result.settings["trained"]
    assert (trained["order"], trained["policy"], trained["precision"]) == ("right-to-left", "CoML-05", "32-true")
    assert result.training.precision == "32-true" and result.training.search_macs == 0
    families = {row.family for row in result.rows}
    assert families == {"Accordion, right-to-left, float32", "Accordion, right-to-left, compact"}
    for family in families:
        rows = [row for row in result.rows if row.family == family]
        assert [row.bytes for row in rows] == sorted({row.bytes for row in rows})
        # Nothing is received twice, and a smaller one needs nothing that the larger one lacks.
        assert all(b.missing(a) == b.bytes - a.bytes and a.missing(b) == 0 for a, b in zip(rows, rows[1:], strict=False))


def test_ours_trained_on_goes_on_with_an_elastic_network(folder: Path) -> None:
    result = done("finished", "CoML-05-75", folder)
    before = done("elastic", "CoML-05", folder)
    assert {row.family for row in result.rows} == {"Accordion, right-to-left, finished with 75% pruned, compact"}
    assert result.training.base_weights == before.training.weights != result.training.weights
    base = listed_run(comparison("finished", "CoML-05-75"), "CoML-05")
    assert (result.training.base, result.training.base_macs) == (base.name, before.training.macs)
    # One epoch on pictures of full size: half of the steps of the complete network, the others of smaller ones, and the teacher.
    whole = done("plain", "float32", folder).rows[0].macs * 1293
    assert 1 + 3 / 2 < result.training.macs / whole < 1 + 3
    assert result.notes["trained on"] == "finishing for int4 and int4+4, 75% of the weights pruned"
    complete = [max(one.rows, key=lambda row: row.macs if "compact" in row.family else 0) for one in (result, before)]
    assert complete[0].bytes < complete[1].bytes  # zeros compress
    other = done("finished", "CoML-05-further", folder)
    assert {row.family for row in other.rows} == {"Accordion, right-to-left, trained further, compact"}
    assert other.training.base_weights == before.training.weights and other.settings["own_steps"]["learning_rate"] == (
        other.settings["steps"]["learning_rate"] / 4
    )
    assert other.training.macs == pytest.approx(result.training.macs - whole, rel=0.02)  # no teacher


def test_ours_adapted_goes_on_with_what_was_trained_further(tmp_path: Path) -> None:
    # Norms of its own are what a configuration adapts; a short training leaves it something to gain.
    changes = {"epochs": 1, "batch": 64, "learning_rate": 0.02, "norms": "configuration"}
    one = replace(comparison("finished", "BlockCoML-05-adapted", changes=changes), network="resnet14")
    result = execute(one, runs=tmp_path, data=tmp_path, accelerator="cpu")
    assert result is not None and result.notes["trained on"] == "trained further and adapted"
    assert {row.family for row in result.rows} == {"Accordion, blockwise, trained further and adapted, compact"}
    folder = tmp_path / "comparisons"
    (own,) = (folder / one.name).glob("run-????????")
    (further,) = (folder / one.name.replace("adapted", "further")).glob("run-????????")
    ours, theirs = RunDirectory(own), RunDirectory(further)
    assert ours.weights_path.read_bytes() == theirs.weights_path.read_bytes()
    did = result.notes["adapted"]
    assert did["configurations"] == [0] and did["kept"] == [0] and did["after"][0] < did["before"][0]
    assert ours.norms_path.read_bytes() != theirs.norms_path.read_bytes()
    assert result.training.weights == ours.digest() and result.training.seconds > did["seconds"] > 0
    # Two epochs more of the smaller configuration, in which no convolution's weights have a gradient.
    context = Context(one, load("digits"), tmp_path)
    before = training_of(context, theirs, TrainingConfig.from_json(theirs.read_settings()["config"]))
    assert result.training.macs - before.macs == pytest.approx(2 * 2 * 1293 * min(row.macs for row in result.rows), rel=0.01)


def test_every_method_names_its_source() -> None:
    assert list(METHODS) == [method.name for method in METHODS.values()]
    assert all(method.title and method.source and method.differs and method.reuses for method in METHODS.values())


def test_an_unknown_method_or_recipe_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no method 'magic'"):
        execute(comparison("magic", "1"), runs=tmp_path, data=tmp_path)
    with pytest.raises(UsageError, match="no recipe 'slow'"):
        _ = comparison("plain", "float32").__class__("plain", "float32", "resnet8", "digits", "slow", 0).steps
    assert Context(comparison("plain", "float32"), load("digits"), tmp_path).seconds_left() is None
