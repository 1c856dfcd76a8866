"""What a device trusts, as a file: for which names which keys, or which TUF repository. Public things only."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any

from accordion.artifact.strict_json import Fields, parse_object
from accordion.errors import FormatError, UsageError
from accordion.trust.keys import PublicKey

__all__ = ["REFUSE", "RULES_LIMIT", "RUN", "Repository", "Rule", "Rules"]

RULES_LIMIT = 8 * 2**20  # bytes
SCHEMA_VERSION = 1
MOST_RULES, MOST_KEYS = 1000, 100
RUN, REFUSE = "run", "refuse"
_PATTERN = re.compile(r"[A-Za-z0-9._*/-]{1,255}\Z")


@dataclass(frozen=True, slots=True)
class Repository:
    """A TUF repository: where it answers, the root that this device was given, and whether models run after expiry."""

    url: str
    root: str
    after_expiry: str = RUN


@dataclass(frozen=True, slots=True)
class Rule:
    """For names that match `names`: signatures by at least `threshold` of `keys`, or what `repository` lists."""

    names: str
    keys: tuple[PublicKey, ...] = ()
    threshold: int = 1
    repository: Repository | None = None

    def to_json(self) -> dict[str, Any]:
        """As the file has it."""
        if self.repository is not None:
            one = self.repository
            return {"names": self.names, "tuf": {"url": one.url, "root": one.root, "after_expiry": one.after_expiry}}
        return {"names": self.names, "keys": [key.pem for key in self.keys], "threshold": self.threshold}

    @classmethod
    def from_json(cls, value: object, where: str) -> Rule:
        """FormatError naming `where` if a field is missing or makes no sense."""
        fields = Fields(value, where)
        names = fields.text("names")
        if not _PATTERN.match(names):
            raise FormatError(f"{where}: {names!r:.80} is no pattern of names")
        if fields.has("tuf"):
            row = Fields(fields.get("tuf"), where)
            after = row.text("after_expiry")
            root = row.get("root")
            if after not in (RUN, REFUSE) or not isinstance(root, str):
                raise FormatError(f"{where}: the repository for {names} makes no sense")
            return cls(names, repository=Repository(row.text("url"), root, after))
        rows = fields.items("keys", most=MOST_KEYS)
        try:
            keys = tuple({key.fingerprint: key for key in (PublicKey.parse(str(row).encode(), where) for row in rows)}.values())
        except UsageError as error:
            raise FormatError(f"{where}: {error}") from error
        threshold = fields.whole("threshold", 1)
        if threshold > len(keys):
            raise FormatError(f"{where}: {threshold} of {len(keys)} keys have to sign {names}, which can't be")
        return cls(names, keys, threshold)


@dataclass(frozen=True, slots=True)
class Rules:
    """All rules. For a name counts the one that names it, else the one with the longest pattern that matches."""

    rules: tuple[Rule, ...] = ()

    @classmethod
    def parse(cls, data: bytes, where: str) -> Rules:
        """FormatError naming `where`: a file that is not understood in whole is not followed in part."""
        fields = Fields(parse_object(data, where, RULES_LIMIT), where)
        if fields.get("schema_version") != SCHEMA_VERSION:
            raise FormatError(f"{where} is of another version of this program")
        found = tuple(Rule.from_json(row, where) for row in fields.items("rules", most=MOST_RULES))
        if fields.rest():
            raise FormatError(f"{where} holds {next(iter(fields.rest()))!r:.60}, which this program does not know")
        if len({rule.names for rule in found}) != len(found):
            raise FormatError(f"{where} holds two rules for the same names")
        return cls(found)

    def to_json(self) -> dict[str, Any]:
        """As the file has it."""
        return {"schema_version": SCHEMA_VERSION, "rules": [rule.to_json() for rule in self.rules]}

    def rule_for(self, name: str) -> Rule | None:
        """The rule that counts for this name, or None."""
        fitting = [rule for rule in self.rules if fnmatchcase(name, rule.names)]
        return max(fitting, key=lambda rule: (rule.names == name, len(rule.names)), default=None)

    def with_keys(self, names: str, keys: Sequence[PublicKey], threshold: int | None) -> Rules:
        """These keys too for these names; left out, the threshold stays (1 at first). UsageError where that makes no sense."""
        rule = self._at(names)
        if rule.repository is not None:
            raise UsageError(f"a TUF repository speaks for {names!r}: `accordion trust remove` it, or name something narrower")
        keys = tuple({key.fingerprint: key for key in (*rule.keys, *keys)}.values())
        threshold = threshold or rule.threshold
        if threshold > len(keys):
            raise UsageError(f"{threshold} of {len(keys)} keys can't sign: give all of them in one command")
        return self._put(replace(rule, keys=keys, threshold=threshold))

    def with_repository(self, names: str, repository: Repository) -> Rules:
        """This repository for these names, in place of what spoke for them."""
        self._at(names)
        return self._put(Rule(names, repository=repository))

    def without(self, what: str) -> Rules:
        """Without the rule for these names, or without the key with this fingerprint (its first 16 characters do).

        UsageError if there is neither, or if too few keys would be left for a rule: its names would then fall to a wider one.
        """
        kept = tuple(rule for rule in self.rules if rule.names != what)
        if len(kept) < len(self.rules):
            return Rules(kept)
        made: list[Rule] = []
        for rule in self.rules:
            keys = tuple(key for key in rule.keys if len(what) < 16 or not key.fingerprint.startswith(what))
            if rule.repository is None and len(keys) < rule.threshold:
                left = f"{rule.names}: {rule.threshold} of its keys must sign, and {len(keys)} would be left"
                raise UsageError(f"{left}; add another key first, or remove the rule by its names")
            made.append(replace(rule, keys=keys))
        if tuple(made) == self.rules:
            raise UsageError(f"there is no rule for {what!r:.80}, and no key of this fingerprint")
        return Rules(tuple(made))

    def _at(self, names: str) -> Rule:
        if not _PATTERN.match(names):
            raise UsageError(f"{names!r:.80} is no pattern of names: letters, digits, '.', '_', '-', '/' and '*'")
        return next((rule for rule in self.rules if rule.names == names), Rule(names))

    def _put(self, rule: Rule) -> Rules:
        return Rules((*(one for one in self.rules if one.names != rule.names), rule))
