"""The exit codes are part of the contract: scripts branch on them."""

import pickle

import pytest

from accordion import errors
from accordion.planning import RequestError


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (errors.AccordionError, 1),
        (errors.TransferError, 1),
        (errors.StorageError, 1),
        (errors.TrainingError, 1),
        (errors.StoppedError, 1),
        (errors.UsageError, 2),
        (errors.UnmeetableError, 3),
        (errors.FormatError, 4),
        (errors.DigestError, 4),
        (errors.SignatureError, 4),
    ],
)
def test_exit_code(kind: type[errors.AccordionError], code: int) -> None:
    assert kind.exit_code == code


def test_every_public_error_is_in_the_tree_and_in_the_drawing() -> None:
    kinds = {name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, errors.AccordionError)}
    assert set(errors.__all__) == kinds
    assert all(name in (errors.__doc__ or "") for name in kinds)


def test_unmeetable_names_the_limit_and_the_nearest_plan() -> None:
    error = errors.UnmeetableError("no", limit="max_bytes", nearest={"configuration": 0})
    assert (error.limit, error.nearest) == ("max_bytes", {"configuration": 0})


def test_errors_come_out_of_another_process_as_they_are() -> None:
    unmeetable = errors.UnmeetableError("no", limit="max_bytes", nearest={"configuration": 0})
    for error in (unmeetable, RequestError("max_bytes", "must be more"), errors.TransferError("off", status=503)):
        again = pickle.loads(pickle.dumps(error))
        assert (type(again), str(again), vars(again)) == (type(error), str(error), vars(error))
