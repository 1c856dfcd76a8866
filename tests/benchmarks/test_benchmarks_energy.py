from __future__ import annotations

import energy  # type: ignore[import-not-found]
import pytest

from accordion.elastic import CifarResNet, right_to_left
from accordion.elastic.resnet import closed_form_macs


def test_right_to_left_costs_one_complete_network_in_each_step() -> None:
    order = right_to_left(CifarResNet(20, 10).stages)
    assert energy.joint_macs([order.by_stage(k) for k in range(len(order))]) == closed_form_macs((3, 3, 3), 10)


def test_blocks_behind_other_blocks_run_again() -> None:
    bare = closed_form_macs((0, 0, 0), 10)
    one, two, three = (closed_form_macs(shape, 10) - bare for shape in ((1, 0, 0), (0, 1, 0), (0, 0, 1)))
    # The second stage runs behind one block of the first and behind two, the third behind (1, 1), (2, 1) and (2, 2).
    found = energy.joint_macs([(1, 1, 1), (2, 1, 1), (2, 2, 2)])
    assert found == pytest.approx(bare + 2 * one + (1 + 2) * two + (1 + 1 + 2) * three)
