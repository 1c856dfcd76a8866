from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from accordion.planning.energy import Joules, stated_j
from accordion.profiling import NoMeterError, open_meter, per_inference


class Counting:
    """10 W at rest and 5 J more for each inference; a second passes whenever somebody looks at the clock."""

    def __init__(self, runs: int) -> None:
        self.now, self.looked, self.runs = 0.0, 0, runs

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def joules(self) -> float:
        self.looked += 1
        if self.looked == 4:  # after the inferences
            self.now += 4.0
            return 10 * self.now + 5 * self.runs
        return 10 * self.now


@pytest.fixture
def model(tmp_path: Path) -> tuple[bytes, dict[str, Any]]:
    """y = x + x, which is all that is needed of a network here."""
    import onnx
    from onnx import TensorProto, helper

    sides = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 2]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Add", ["x", "x"], ["y"])], "g", sides[:1], sides[1:])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(made)
    return made.SerializeToString(), {"x": np.ones((1, 2), np.float32)}


def test_joules_are_counted_with_and_without_what_rest_takes(model: tuple[bytes, dict[str, Any]]) -> None:
    counting = Counting(runs=10)
    found = per_inference(model[0], model[1], counting, seconds=0.0, clock=counting.clock, sleep=lambda _: counting.sleep(2.0))
    assert found["runs"] == 10
    assert found["value"] == found["high"] == pytest.approx((4 * 10 + 50) / 10)
    assert found["low"] == pytest.approx(5.0)
    assert stated_j(found) == Joules(9.0, 5.0, 9.0)


def test_without_the_library_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("zeus", "zeus.device", "zeus.device.cpu"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(NoMeterError, match=r"pip install '.\[energy\]'"):
        open_meter()


def test_a_machine_without_counters_says_so() -> None:
    pytest.importorskip("zeus", reason="needs the extra [energy]")
    if Path("/sys/class/powercap/intel-rapl").exists():
        meter = open_meter()
        assert 0 <= meter.joules() <= meter.joules()
    else:
        with pytest.raises(NoMeterError, match="shows no energy counters"):
            open_meter()
