from __future__ import annotations

import numpy as np
import pytest

from accordion.errors import UsageError
from accordion.profiling import clopper_pearson
from accordion.profiling.quality import accuracy_by_class, quality_fields


def test_quality_states_what_was_measured_and_how() -> None:
    correct = np.array([True, True, False, True])
    found = quality_fields(correct, dataset="digits", split="test")
    low, high = found.pop("interval")
    exact_low, exact_high = clopper_pearson(3, 4)
    # Written with few digits, but never narrower than it is.
    assert exact_low - 1e-6 <= low <= exact_low and exact_high <= high <= exact_high + 1e-6
    assert found == {
        "metric": "accuracy",
        "direction": "higher",
        "unit": "fraction",
        "value": 0.75,
        "confidence": 0.95,
        "interval_method": "Clopper-Pearson",
        "samples": 4,
        "dataset": "digits",
        "split": "test",
    }


def test_no_pictures_no_quality() -> None:
    with pytest.raises(UsageError, match="empty"):
        quality_fields(np.zeros(0, dtype=bool), dataset="digits", split="test")


def test_accuracy_by_class_leaves_absent_classes_open() -> None:
    correct = np.array([True, False, True])
    assert accuracy_by_class(correct, np.array([0, 0, 2]), 3) == [0.5, None, 1.0]
