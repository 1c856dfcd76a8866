from __future__ import annotations

import numpy as np
import pytest
import torch

from accordion.data import Split, augment, batches_per_epoch, resize, training_batches

Batches = list[tuple[torch.Tensor, torch.Tensor]]


@pytest.fixture
def split() -> Split:
    rng = np.random.default_rng(5)
    return Split(rng.integers(1, 256, (50, 3, 16, 16), dtype=np.uint8), np.arange(50, dtype=np.int64))


def same(one: Batches, other: Batches) -> bool:
    return len(one) == len(other) and all(
        torch.equal(a, c) and torch.equal(b, d) for (a, b), (c, d) in zip(one, other, strict=True)
    )


def test_batches_are_floats_from_0_to_1_with_their_labels(split: Split) -> None:
    for x, y in training_batches(split, batch=16, seed=1, epoch=0, crop=False, flip=False):
        assert (x.dtype, x.shape, y.dtype, y.shape) == (torch.float32, (16, 3, 16, 16), torch.int64, (16,))
        # The labels of this split are the row numbers.
        assert torch.equal(x, torch.from_numpy(split.x[y.numpy()]).float() / 255)


def test_an_epoch_draws_each_row_at_most_once_in_full_batches(split: Split) -> None:
    labels = [int(label) for _, y in training_batches(split, batch=16, seed=1, epoch=0) for label in y]
    assert len(labels) == len(set(labels)) == 48


@pytest.mark.parametrize(("rows", "batch", "count"), [(50, 16, 3), (48, 16, 3), (47, 16, 2), (5, 16, 1)])
def test_only_full_batches_count_but_there_is_always_one(rows: int, batch: int, count: int) -> None:
    assert batches_per_epoch(rows, batch) == count


def test_a_split_smaller_than_a_batch_comes_whole(split: Split) -> None:
    (batch,) = training_batches(split, batch=100, seed=1, epoch=0)
    assert sorted(batch[1].tolist()) == list(range(50))


def test_the_same_seed_and_epoch_give_the_same_batches(split: Split) -> None:
    one, other = (list(training_batches(split, batch=16, seed=1, epoch=4)) for _ in range(2))
    assert same(one, other)


@pytest.mark.parametrize(("seed", "epoch"), [(2, 4), (1, 5)])
def test_another_seed_or_epoch_gives_others(split: Split, seed: int, epoch: int) -> None:
    one = list(training_batches(split, batch=16, seed=1, epoch=4))
    assert not same(one, list(training_batches(split, batch=16, seed=seed, epoch=epoch)))


@pytest.mark.parametrize("start", [0, 1, 2, 3])
def test_starting_at_a_position_equals_skipping_up_to_it(split: Split, start: int) -> None:
    every = list(training_batches(split, batch=16, seed=1, epoch=0))
    assert same(list(training_batches(split, batch=16, seed=1, epoch=0, start=start)), every[start:])


def test_drawing_leaves_the_split_alone(split: Split) -> None:
    before = split.x.copy()
    list(training_batches(split, batch=16, seed=1, epoch=0))
    assert np.array_equal(split.x, before)


@pytest.mark.parametrize(("crop", "flip"), [(False, False), (True, False), (False, True), (True, True)])
@pytest.mark.parametrize("shape", [(4, 1, 8, 8), (4, 3, 32, 32)])
def test_augmenting_keeps_shape_and_dtype(shape: tuple[int, ...], crop: bool, flip: bool) -> None:
    x = torch.randint(0, 256, shape, dtype=torch.uint8)
    y = augment(x, np.random.default_rng(1), crop=crop, flip=flip)
    assert (y.shape, y.dtype) == (x.shape, torch.uint8)


def test_augmenting_depends_on_the_generator_alone() -> None:
    x = torch.randint(0, 256, (16, 3, 16, 16), dtype=torch.uint8)
    one, again, other = (augment(x, np.random.default_rng(key), crop=True, flip=True) for key in ([1, 2, 3], [1, 2, 3], [1, 2, 4]))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


def test_flipping_mirrors_some_pictures_and_leaves_the_rest() -> None:
    x = torch.randint(0, 256, (64, 1, 8, 8), dtype=torch.uint8)
    y = augment(x, np.random.default_rng(1), crop=False, flip=True)
    kinds = [(torch.equal(a, b), torch.equal(a.flip(-1), b)) for a, b in zip(x, y, strict=True)]
    assert set(kinds) == {(True, False), (False, True)}


def test_cropping_shifts_by_at_most_an_eighth_and_fills_with_black() -> None:
    x = torch.full((256, 1, 16, 16), 9, dtype=torch.uint8)
    y = augment(x, np.random.default_rng(1), crop=True, flip=False)
    black = (y == 0).any(dim=3).sum(dim=(1, 2))  # rows with any black: all of them where the shift is sideways
    blank_rows = (y == 0).all(dim=3).sum(dim=(1, 2))
    assert int(blank_rows.max()) == 2
    assert int(black.min()) == 0
    assert set(y.unique().tolist()) == {0, 9}


def test_resizing_changes_the_side_and_stays_within_0_and_1() -> None:
    x = torch.rand(2, 3, 32, 32).round()
    y = resize(x, 16)
    assert y.shape == (2, 3, 16, 16)
    assert 0 <= float(y.min()) <= float(y.max()) <= 1


def test_resizing_to_the_same_side_is_the_same_tensor() -> None:
    x = torch.rand(2, 3, 32, 32)
    assert resize(x, 32) is x
