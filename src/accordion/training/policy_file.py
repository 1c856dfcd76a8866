"""A policy as a file: what `train --policy FILE` reads, and what it was made from, so that it can be made again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accordion.artifact.atomic import write_file
from accordion.artifact.bounded import read_file
from accordion.errors import UsageError
from accordion.training.policies import Policy

__all__ = ["FILE_LIMIT", "Input", "policy_bytes", "read_input", "write_policy"]

FILE_LIMIT = 256 * 2**20  # of anything that a policy is made from


@dataclass(frozen=True, slots=True)
class Input:
    """A file that went into a policy; `name` is what it was called, without its folder."""

    name: str
    sha256: str
    content: bytes

    def to_json(self) -> dict[str, Any]:
        """What identifies it."""
        return {"file": self.name, "bytes": len(self.content), "sha256": self.sha256}

    def text(self) -> str:
        """UsageError if it is no text."""
        try:
            return self.content.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise UsageError(f"{self.name} is not a text") from error


def read_input(path: Path) -> Input:
    """UsageError if there is no such file, or it is too long; StorageError if it can't be read."""
    content = read_file(path, FILE_LIMIT)
    return Input(path.name, hashlib.sha256(content).hexdigest(), content)


def policy_bytes(
    policy: Policy, *, kind: str, options: Mapping[str, Any], inputs: Sequence[Mapping[str, Any]], nothing: float | None = None
) -> bytes:
    """The file. The same inputs and options give the same bytes, so it holds no time and no folder.

    `options` are what was asked, `inputs` what it was made from, each with a digest; `nothing` is the share of cases in which no
    configuration arrives or can be had, which the probabilities leave out.
    """
    made: dict[str, Any] = {"kind": kind, "options": dict(options), "inputs": [dict(one) for one in inputs]}
    if nothing is not None:
        made["nothing"] = float(f"{nothing:.6g}")
    value = {"schema_version": 1, **policy.to_json(), "made": made}
    return json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False).encode() + b"\n"


def write_policy(path: Path, content: bytes) -> None:
    """Whole or not at all. UsageError without the folder, StorageError if the disk fails."""
    if not path.absolute().parent.is_dir() or path.is_dir():
        raise UsageError(f"{path} can't be written: name a file in a folder that is there")
    write_file(path, content)
