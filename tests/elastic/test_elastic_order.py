from __future__ import annotations

import pytest

from accordion.elastic import CifarResNet, Family, Order, Stages, blockwise, by_name, grid, nested, right_to_left
from accordion.errors import UsageError

STAGES: Stages = (("a0", "a1", "a2"), ("b0", "b1"), ("c0",))


def counts(order: Order) -> list[tuple[int, ...]]:
    return [order.by_stage(k) for k in range(len(order))]


def test_right_to_left_adds_one_block_at_a_time_from_the_left() -> None:
    assert counts(right_to_left(STAGES)) == [(1, 0, 0), (2, 0, 0), (3, 0, 0), (3, 1, 0), (3, 2, 0), (3, 2, 1)]


def test_blockwise_keeps_a_shorter_stage_complete() -> None:
    assert counts(blockwise(STAGES)) == [(1, 1, 1), (2, 2, 1), (3, 2, 1)]


def test_nested_takes_block_counts_as_data() -> None:
    rows = [(1, 0, 0), (1, 1, 1), (3, 2, 1)]
    order = nested("mine", STAGES, rows)
    assert counts(order) == rows
    assert order.configurations[1] == {"a0", "b0", "c0"}


@pytest.mark.parametrize(("depth", "k", "block_k"), [(56, 27, 9), (110, 54, 18)])
def test_the_papers_networks_have_the_papers_number_of_configurations(depth: int, k: int, block_k: int) -> None:
    stages = CifarResNet(depth, 10, widths=(1, 2, 4)).stages
    assert (len(right_to_left(stages)), len(blockwise(stages))) == (k, block_k)


@pytest.mark.parametrize(
    ("name", "same_as"),
    [("right-to-left", "right-to-left"), ("CoML", "right-to-left"), ("blockwise", "blockwise"), ("BlockCoML", "blockwise")],
)
def test_orders_are_found_by_name_and_alias(name: str, same_as: str) -> None:
    assert by_name(name, STAGES).name == same_as


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(UsageError, match=r"'left-to-right'.*right-to-left, blockwise, grid"):
        by_name("left-to-right", STAGES)


def test_find_gives_the_configuration_with_these_counts() -> None:
    order = right_to_left(STAGES)
    assert order.find([3, 1, 0]) == 3
    with pytest.raises(UsageError, match=r"no configuration \(1, 1, 0\)"):
        order.find([1, 1, 0])


@pytest.mark.parametrize("row", [(1, 0), (4, 0, 0), (-1, 0, 0), (1, 0, 0, 0)])
def test_counts_that_do_not_fit_the_network_are_refused(row: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match=r"configuration 0: .* does not fit"):
        nested("mine", STAGES, [row, (3, 2, 1)])


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([(1, 1, 0), (2, 0, 0), (3, 2, 1)], "not nested: configuration 1 .*b0"),
        ([(1, 0, 0), (1, 0, 0), (3, 2, 1)], "nothing is added"),
        ([(1, 0, 0), (3, 2, 0)], "must be complete; it lacks c0"),
        ([], "has no configuration"),
    ],
)
def test_a_sequence_that_is_no_nested_order_is_refused(rows: list[tuple[int, ...]], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        nested("mine", STAGES, rows)


def test_unknown_blocks_are_named() -> None:
    with pytest.raises(UsageError, match="configuration 0: the network has no block z9"):
        Order("mine", (("a",),), (frozenset({"a", "z9"}),))


def test_a_block_named_twice_is_refused() -> None:
    with pytest.raises(UsageError, match="named twice: a"):
        right_to_left((("a", "b"), ("a",)))


def test_a_network_without_blocks_has_no_order() -> None:
    with pytest.raises(UsageError, match="has no configuration"):
        right_to_left(((), ()))


def test_a_grid_has_every_configuration_from_the_smallest_up() -> None:
    found = grid((("a1", "a2"), ("b1",), ("c1", "c2")), (1, 0, 1))
    assert len(found) == 2 * 2 * 2
    assert found.by_stage(0) == (1, 0, 1) and found.by_stage(7) == (2, 1, 2)
    assert {found.by_stage(k) for k in range(8)} == {(a, b, c) for a in (1, 2) for b in (0, 1) for c in (1, 2)}
    assert [sum(found.by_stage(k)) for k in range(8)] == sorted(sum(found.by_stage(k)) for k in range(8))
    assert found.find((2, 0, 1)) in range(8)


@pytest.mark.parametrize("minimum", [(0, 0, 0), (3, 1, 1), (1, 1), (-1, 1, 1)])
def test_a_grid_that_makes_no_sense_is_refused(minimum: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match="a grid can't begin with"):
        grid((("a1", "a2"), ("b1",), ("c1", "c2")), minimum)


@pytest.mark.parametrize("name", ["grid:", "grid:1,x,1", "grid:1,1"])
def test_a_grid_is_named_with_its_smallest_configuration(name: str) -> None:
    stages = (("a1", "a2"), ("b1",), ("c1", "c2"))
    assert by_name("grid:2,1,1", stages).by_stage(0) == (2, 1, 1)
    if name == "grid:":
        assert len(by_name(name, stages)) == 4
    else:
        with pytest.raises(UsageError, match="grid"):
            by_name(name, stages)


def test_what_a_training_watches_of_a_grid_is_few_and_even() -> None:
    stages = tuple(tuple(f"{stage}{n}" for n in range(9)) for stage in "abc")
    watched = [grid(stages).by_stage(k) for k in grid(stages).watched()]
    assert watched == [(n, n, n) for n in range(1, 10)]
    assert right_to_left(stages).watched() == tuple(range(27))


def test_a_family_must_begin_with_what_all_have_and_end_complete() -> None:
    stages = (("a", "b"),)
    with pytest.raises(UsageError, match="lacks blocks of the smallest"):
        Family("mine", stages, (frozenset("a"), frozenset("b"), frozenset("ab")))
    with pytest.raises(UsageError, match="two equal configurations"):
        Family("mine", stages, (frozenset("a"), frozenset("a"), frozenset("ab")))
    with pytest.raises(UsageError, match="must be complete"):
        Family("mine", stages, (frozenset("a"),))
