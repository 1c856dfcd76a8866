"""How new the versions were that this device has accepted, so that it never goes back. Beside the rules, in `….seen`."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

from accordion.artifact.atomic import write_file
from accordion.artifact.bounded import read_file
from accordion.artifact.strict_json import Fields, dump, parse_object
from accordion.errors import FormatError
from accordion.trust.files import locked

__all__ = ["Record"]

RECORD_LIMIT = 4 * 2**20  # bytes
SCHEMA_VERSION = 1


class Record:
    """One file: name → tag → {sequence, keys}.

    What was seen counts only as long as enough of the keys that vouched for it are still trusted: a stolen key that claimed an
    enormous sequence is forgotten together with its claim.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def seen(self, name: str, tag: str, trusted: Collection[str], threshold: int) -> int:
        """The sequence below which nothing counts any more; 0 where nothing was seen. `trusted` are fingerprints."""
        row = self._read().get(name, {}).get(tag)
        if row is None:
            return 0
        fields = Fields(row, str(self.path))
        return fields.whole("sequence") if len(set(fields.texts("keys")) & set(trusted)) >= threshold else 0

    def remember(self, name: str, tag: str, sequence: int, keys: Collection[str], trusted: Collection[str], threshold: int) -> None:
        """These keys vouched for this sequence. What was seen before stays if it is newer. StorageError from the disk."""
        with locked(self.path.with_name(self.path.name + ".lock")):
            before = self.seen(name, tag, trusted, threshold)
            rows = self._read()
            old = rows.get(name, {}).get(tag)
            if before > sequence or old == {"sequence": sequence, "keys": sorted(keys)}:
                return
            rows.setdefault(name, {})[tag] = {"sequence": sequence, "keys": sorted(keys)}
            write_file(self.path, dump({"schema_version": SCHEMA_VERSION, "seen": rows}))

    def _read(self) -> dict[str, Any]:
        if not self.path.exists():
            return {}
        where = str(self.path)
        fields = Fields(parse_object(read_file(self.path, RECORD_LIMIT), where, RECORD_LIMIT), where)
        rows = fields.get("seen")
        if fields.get("schema_version") != SCHEMA_VERSION or not isinstance(rows, dict):
            raise FormatError(f"{where} is of another version of this program")
        if not all(isinstance(row, dict) for row in rows.values()):
            raise FormatError(f"{where} is broken: restore it, or remove it to trust the next version as a first one")
        return rows
