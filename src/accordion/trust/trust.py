"""What this device trusts, and whether a manifest may be installed or run under it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from accordion.artifact.atomic import write_file
from accordion.artifact.bounded import read_file
from accordion.artifact.digest import is_digest
from accordion.artifact.layout import Layout
from accordion.artifact.strict_json import dump
from accordion.errors import ContentError, SignatureError, StorageError, UsageError
from accordion.trust.check import check_fresh, check_signed
from accordion.trust.proof import Proof
from accordion.trust.record import Record
from accordion.trust.rules import RULES_LIMIT, Repository, Rule, Rules
from accordion.trust.signature import Signed, signatures_in
from accordion.trust.statement import DEFAULT_TAG

if TYPE_CHECKING:
    from accordion.trust.tuf_client import TufClient

__all__ = ["VARIABLE", "Trust", "default_path"]

VARIABLE = "ACCORDION_TRUST"
CHECK_S = 30.0  # for what has to come from the network to check one version, where nobody sets a nearer deadline


def default_path() -> Path:
    """Where a user's own rules lie, whether there are any or not."""
    base = os.environ.get("XDG_CONFIG_HOME")
    return (Path(base) if base else Path.home() / ".config") / "accordion" / "trust.json"


class Trust:
    """The rules of one file. A name that no rule covers is not trusted: where trust is configured, nothing unsigned runs."""

    def __init__(self, path: Path, rules: Rules) -> None:
        self.path, self.rules = path, rules

    def __repr__(self) -> str:
        return f"Trust({str(self.path)!r})"

    @classmethod
    def open(cls, path: Path | str) -> Trust:
        """UsageError if there is no such file, FormatError if it is not understood, AccordionError if a library is missing."""
        return cls(Path(path), Rules.parse(read_file(Path(path), RULES_LIMIT), str(path)))

    @classmethod
    def configured(cls, path: Path | str | None = None) -> Trust | None:
        """The rules in `path`, else in the file that ACCORDION_TRUST names, else the user's own; None where nothing is configured.

        Errors as of `open`: a file that was named and is missing is an error, never the absence of rules.
        """
        if path is not None:
            return cls.open(path)
        if named := os.environ.get(VARIABLE):
            return cls.open(named)
        try:
            own = default_path()
            own.lstat()
        except (RuntimeError, FileNotFoundError, NotADirectoryError):  # no home directory, or no such file in it
            return None
        except OSError as error:  # who can't look must not conclude that nothing is there
            raise StorageError(f"can't see whether there is {own}: {error.strerror or error}") from error
        return cls.open(own)

    @classmethod
    def place(cls, path: Path | str | None = None) -> Path:
        """Which file `configured` would read."""
        return Path(path or os.environ.get(VARIABLE) or default_path())

    def save(self) -> None:
        """Writes the rules; where none is left, the file goes, and nothing is configured. StorageError from the disk."""
        try:
            if not self.rules.rules:
                self.path.unlink(missing_ok=True)
                return
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(f"can't write {self.path}: {error.strerror or error}") from error
        write_file(self.path, dump(self.rules.to_json()) + b"\n")

    def rule_for(self, name: str) -> Rule:
        """The rule for this name. SignatureError where none covers it."""
        rule = self.rules.rule_for(name)
        if rule is None:
            raise SignatureError(f"{name} is not to be trusted: no rule of {self.path} covers it (`accordion trust add` makes one)")
        return rule

    def wants_signatures(self, name: str) -> bool:
        """Whether signatures decide for this name, and not a repository's list. SignatureError as `rule_for`."""
        return self.rule_for(name).repository is None

    def admit(
        self, name: str, reference: str | None, digest: str, size: int, signatures: Sequence[Signed], *, within_s: float = CHECK_S
    ) -> Proof:
        """Whether this manifest may be installed as what was asked for: `name`, and a tag, a digest or neither (`reference`).

        Under a TUF repository this asks it, for at most `within_s` seconds. What is accepted is remembered: nothing older under the
        same tag is accepted later. A digest that is asked for is that version, new or old; neither means `latest`, whatever an
        endpoint makes of it. The proof is to be kept with the model.

        Raises:
            SignatureError: it may not.
            TransferError: the repository can't be asked.
            StorageError: what was accepted can't be remembered.
            AccordionError: a library is missing.
        """
        rule = self.rule_for(name)
        exact = reference is not None and is_digest(reference)
        if exact and reference != digest:
            raise SignatureError(f"{name}: {digest} came where {reference} was asked for")
        if rule.repository is not None:
            listed = self._tuf(rule.repository).listed(name, reference, digest, size, within_s)
            return Proof(digest, (), listed)
        tag = None if exact else reference or DEFAULT_TAG
        found = check_signed(rule, name, tag, digest, signatures)
        if tag is not None:
            record = Record(self.path.with_name(self.path.name + ".seen"))
            trusted = [key.fingerprint for key in rule.keys]
            sequence, keys = check_fresh(rule, name, digest, found, record.seen(name, tag, trusted, rule.threshold))
            record.remember(name, tag, sequence, keys, trusted, rule.threshold)
        return Proof(digest, tuple(signatures))

    def examine(self, layout: Layout, name: str) -> list[str]:
        """What keeps the versions of a package from being admitted under this name, a line each; nothing is remembered.

        TransferError where a repository has to be asked and can't be.
        """
        problems = []
        for tag, descriptor in layout.tags().items():
            try:
                rule = self.rule_for(name)
                if rule.repository is not None:
                    self._tuf(rule.repository).listed(name, tag, descriptor.digest, descriptor.size, CHECK_S)
                else:
                    check_signed(rule, name, tag, descriptor.digest, signatures_in(layout, descriptor.digest))
            except ContentError as error:
                problems.append(f"{tag}: {error}")
        return problems

    def vouch(self, name: str, digest: str, proof: Proof | None) -> tuple[str, ...]:
        """Whether what was installed once may run: asks nobody. Returns warnings, a line each.

        Raises:
            SignatureError: it may not, or nothing vouches for it.
            AccordionError: a library is missing.
        """
        rule = self.rule_for(name)
        if proof is None or proof.manifest != digest:
            raise SignatureError(f"{name} is not to be trusted: nothing here vouches for {digest}; fetch it again")
        if rule.repository is not None:
            if proof.listed is None:
                raise SignatureError(f"{name} is not to be trusted: no repository's list vouches for {digest}; fetch it again")
            return self._tuf(rule.repository).vouches(name, digest, proof.listed)
        check_signed(rule, name, None, digest, proof.signatures)
        return ()

    def add_keys(self, names: Sequence[str], keys: Sequence[bytes], threshold: int | None) -> None:
        """Trusts these public keys (PEM) for these names too. UsageError where that makes no sense."""
        from accordion.trust.keys import PublicKey

        parsed = [PublicKey.parse(data, "the key") for data in keys]
        for name in names:
            self.rules = self.rules.with_keys(name, parsed, threshold)

    def add_repository(self, names: Sequence[str], repository: Repository) -> None:
        """Trusts a TUF repository for these names. UsageError where its root is none."""
        from accordion.trust.tuf_client import check_root

        if not repository.url.startswith(("https://", "http://", "file://")):
            raise UsageError(f"{repository.url!r:.100} is no address of a repository: write https://…, http://… or file:///…")
        check_root(repository.root.encode())
        for name in names:
            self.rules = self.rules.with_repository(name, repository)

    def _tuf(self, repository: Repository) -> TufClient:
        from accordion.trust.tuf_client import TufClient

        return TufClient(self.path.with_name(self.path.name + ".tuf"), repository)
