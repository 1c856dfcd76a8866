from __future__ import annotations

import argparse
from pathlib import Path

import growth  # type: ignore[import-not-found]
import growth_operations  # type: ignore[import-not-found]
import pytest


def row(exponent: float, peak_mib: float = 0.0) -> dict[str, list[list[float]]]:
    """An operation with a fixed cost of 20 ms, and a millisecond a MB to some power."""
    sizes = [size * 1_000_000 for size in growth.BYTES]
    return {str(size): [[0.02 + 0.001 * (size / 1e6) ** exponent, peak_mib * 2**20, 0.0]] for size in sizes}


def test_the_fixed_cost_does_not_hide_how_it_grows() -> None:
    assert growth.judged("bytes", "verify", row(1.0))["time_held"]
    worse = growth.judged("bytes", "verify", row(1.5))
    assert not worse["time_held"]
    assert worse["time"]["slope"] > 1.3


def test_what_must_not_grow_at_all() -> None:
    assert growth.judged("bytes", "plan", row(0.0))["time_held"]
    assert not growth.judged("bytes", "plan", row(1.0))["time_held"]


def test_what_checks_all_graphs_is_held_against_their_nodes() -> None:
    square = {str(size): [[3e-5 * size * (size + 1) / 2, 0.0, 0.0]] for size in growth.LADDERS}
    found = growth.judged("ladder", "verify", square)
    assert found["time_held"] and found["by_nodes"]
    assert found["time"]["slope"] == pytest.approx(1.0)
    times = growth.table("ladder", {"fits": {"verify": found}}).splitlines()[-1].split(" | ")
    # Memory, which stands last, is held against the configurations.
    assert times[0] == "| verify" and ["by nodes of all graphs" in cell for cell in times[1:]] == [False, True, False, False, False]
    assert not growth.judged("ladder", "open", square)["time_held"]
    cube = {size: [[one[0] * int(size), 0.0, 0.0] for one in found] for size, found in square.items()}
    assert not growth.judged("ladder", "verify", cube)["time_held"]


def test_memory_that_follows_the_bytes_is_found_and_the_allocators_is_not() -> None:
    bounded, growing = row(1.0, peak_mib=3.0), row(1.0)
    for size, found in growing.items():
        found[0][1] = 0.1 * int(size)
    assert growth.judged("bytes", "pull", bounded)["memory_held"]
    assert not growth.judged("bytes", "pull", growing)["memory_held"]
    assert growth.judged("bytes", "pull", row(1.0, peak_mib=0.001))["memory"]["slope"] == 0


def test_a_small_run_takes_the_small_sizes() -> None:
    arguments = argparse.Namespace(largest=64_000_000, longest=25, most=100)
    assert growth.sizes_of("bytes", arguments) == [1_000_000, 4_000_000, 16_000_000, 64_000_000]
    assert growth.sizes_of("ladder", arguments) == [3, 6, 12, 25]
    assert growth.sizes_of("catalog", arguments) == [1, 10, 100]


def test_operations_on_a_package_are_measured_in_a_process_of_their_own(tmp_path: Path) -> None:
    growth.prepare(tmp_path, "ladder", [3])
    for name in ("open", "verify", "load at the endpoint", "plan", "export"):
        operation = growth_operations.OPERATIONS[name]
        stages = [
            growth_operations.Stage(tmp_path / "3" / "net", growth_operations.empty(tmp_path / turn), "", None)
            for turn in ("warm", "work")
        ]
        found = growth_operations.in_a_fork((operation, stages[0]), (operation, stages[1]))
        assert found.seconds > 0
        assert found.peak_bytes >= 0


def test_an_operation_that_there_is_not_is_said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["growth.py", "--only", "nonsense"])
    with pytest.raises(SystemExit):
        growth.main()
    assert "there is no operation 'nonsense': choose catalog load" in capsys.readouterr().err
