"""Signatures held against a rule: pure, with one clear reason where they do not do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from accordion.errors import FormatError, SignatureError
from accordion.trust.rules import Rule
from accordion.trust.signature import Signed
from accordion.trust.statement import DEFAULT_TAG, Statement

__all__ = ["check_fresh", "check_signed"]


def check_signed(rule: Rule, name: str, tag: str | None, digest: str, signatures: Sequence[Signed]) -> dict[str, Statement]:
    """What the rule's keys say of this manifest under this name (and this tag, where one was asked for), by fingerprint.

    Of several statements by one key, the newest. SignatureError unless enough keys speak for it. A statement is read only after its
    signature was found good.
    """
    found: dict[str, Statement] = {}
    reason = "it is signed by none of the keys that are trusted for it" if signatures else "it is not signed"
    for key in rule.keys:
        for one in signatures:
            if not key.verifies(one.signature, one.payload):
                continue
            try:
                statement = Statement.parse(one.payload)
            except FormatError as error:
                reason = str(error)
                continue
            if statement.digest != digest:
                reason = f"the signature is for another manifest, {statement.digest}"
            elif not statement.speaks_for(name, None):
                reason = f"it is signed as {statement.name!r:.80}, not under this name"
            elif not statement.speaks_for(name, tag):
                meant = f"{tag}, which is what no tag means too" if tag == DEFAULT_TAG else tag
                reason = f"it is signed for the tags {', '.join(statement.tags)[:80]}, not for {meant}"
            elif key.fingerprint not in found or _age(found[key.fingerprint]) < _age(statement):
                found[key.fingerprint] = statement
    if len(found) < rule.threshold:
        if found:
            reason = f"{len(found)} of the {rule.threshold} keys have signed that are needed"
        raise SignatureError(f"{name} is not to be trusted: {reason} ({digest})")
    return found


def check_fresh(rule: Rule, name: str, digest: str, found: Mapping[str, Statement], seen: int) -> tuple[int, list[str]]:
    """The sequence that enough keys vouch for, and who they are. SignatureError if that is older than what was `seen`."""
    order = sorted(found, key=lambda one: _age(found[one]), reverse=True)
    sequence = _age(found[order[rule.threshold - 1]])
    if sequence < seen:
        raise SignatureError(
            f"{name} is not to be trusted: this version is older (sequence {sequence}) than one that was accepted before "
            f"({seen}); its digest, {digest}, would have to be asked for by name"
        )
    return sequence, [one for one in order if _age(found[one]) >= sequence]


def _age(statement: Statement) -> int:
    return statement.sequence or 0
