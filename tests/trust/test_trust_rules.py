"""Rules as a file, and what was seen: which rule counts, and what is refused in whole."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from accordion.errors import FormatError, SignatureError, StorageError, UsageError
from accordion.trust import Trust
from accordion.trust.keys import PrivateKey
from accordion.trust.record import Record
from accordion.trust.rules import Repository, Rules


def test_the_narrowest_rule_counts(maker: PrivateKey, second: PrivateKey, stranger: PrivateKey) -> None:
    rules = Rules().with_keys("*", [stranger.public], None).with_keys("team/*", [second.public], None)
    rules = rules.with_keys("team/net", [maker.public], None).with_keys("team/ne*t", [stranger.public], None)
    for name, key in (("team/net", maker), ("team/other", second), ("other", stranger), ("teams/net", stranger)):
        rule = rules.rule_for(name)
        assert rule is not None and rule.keys == (key.public,)
    assert Rules().with_keys("net", [maker.public], None).rule_for("nets") is None
    assert Rules().with_keys("net", [maker.public], None).rule_for("NET") is None


def test_there_and_back(maker: PrivateKey, second: PrivateKey) -> None:
    rules = (
        Rules().with_keys("net", [maker.public, second.public], 2).with_repository("a/*", Repository("https://x", "{}", "refuse"))
    )
    back = Rules.parse(json.dumps(rules.to_json()).encode(), "it")
    assert back == rules
    assert back.to_json() == rules.to_json()


def test_keys_add_up_and_go(maker: PrivateKey, second: PrivateKey) -> None:
    rules = Rules().with_keys("net", [maker.public], None).with_keys("net", [maker.public, second.public], None)
    assert len(rules.rules[0].keys) == 2 and rules.rules[0].threshold == 1
    with pytest.raises(UsageError, match="3 of 2 keys"):
        rules.with_keys("net", [], 3)
    assert rules.without(maker.public.fingerprint[:16]).rules[0].keys == (second.public,)
    assert rules.without("net").rules == ()
    with pytest.raises(UsageError, match="0 would be left"):
        rules.without(maker.public.fingerprint).without(second.public.fingerprint)
    for what in ("other", "", maker.public.fingerprint[:8]):
        with pytest.raises(UsageError, match="there is no rule"):
            rules.without(what)
    with pytest.raises(UsageError, match="1 would be left"):
        rules.with_keys("net", [], 2).without(maker.public.fingerprint)
    for names in ("", "a b", "net[0-9]", "ne?t", "ä"):
        with pytest.raises(UsageError, match="no pattern"):
            rules.with_keys(names, [maker.public], None)
    with_repository = rules.with_repository("net", Repository("https://x", "{}"))
    assert len(with_repository.rules) == 1
    with pytest.raises(UsageError, match="repository speaks"):
        with_repository.with_keys("net", [maker.public], None)


def test_a_file_that_is_not_understood_is_not_followed_in_part(trust: Trust, maker: PrivateKey) -> None:
    good = json.loads(trust.path.read_text())
    assert Rules.parse(json.dumps(good).encode(), "it").rules
    row = good["rules"][0]
    for value in (
        {},
        {**good, "schema_version": 2},
        {**good, "exceptions": ["everything"]},
        {**good, "rules": [row, row]},
        {**good, "rules": [{**row, "names": "a b"}]},
        {**good, "rules": [{**row, "keys": []}]},
        {**good, "rules": [{**row, "keys": ["nonsense"]}]},
        {**good, "rules": [{**row, "keys": [maker.to_pem(None).decode()]}]},
        {**good, "rules": [{**row, "threshold": 0}]},
        {**good, "rules": [{**row, "threshold": 2}]},
        {**good, "rules": [{"names": "x", "tuf": {"url": "https://x", "root": "{}", "after_expiry": "perhaps"}}]},
        {**good, "rules": [{"names": "x", "tuf": {"url": "https://x", "root": 7, "after_expiry": "run"}}]},
    ):
        trust.path.write_text(json.dumps(value))
        with pytest.raises(FormatError):
            Trust.open(trust.path)


def test_where_the_rules_come_from(trust: Trust, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    assert Trust.configured() is None
    own = Trust(Trust.place(), trust.rules)
    own.save()
    assert own.path == tmp_path / "config" / "accordion" / "trust.json"
    found = Trust.configured()
    assert found is not None and found.rules == trust.rules
    monkeypatch.setenv("ACCORDION_TRUST", str(tmp_path / "missing.json"))
    with pytest.raises(UsageError, match="there is no file"):
        Trust.configured()
    found = Trust.configured(trust.path)
    assert found is not None and found.path == trust.path
    monkeypatch.delenv("ACCORDION_TRUST")
    own.path.unlink()
    own.path.symlink_to(tmp_path / "gone")  # a rule file that points nowhere is no absence of rules
    with pytest.raises(UsageError):
        Trust.configured()
    monkeypatch.setattr(Path, "lstat", lambda self: (_ for _ in ()).throw(PermissionError(13, "Permission denied")))
    with pytest.raises(StorageError, match="can't see"):
        Trust.configured()


def test_a_name_without_a_rule_is_not_trusted(trust: Trust) -> None:
    for name in ("other", "net/other", "NET"):
        with pytest.raises(SignatureError, match="no rule of"):
            trust.admit(name, None, "sha256:" + "1" * 64, 1, [])


def test_what_was_seen_never_goes_back(tmp_path: Path) -> None:
    record = Record(tmp_path / "seen")
    assert record.seen("net", "latest", ["a"], 1) == 0
    record.remember("net", "latest", 5, ["a"], ["a"], 1)
    record.remember("net", "latest", 3, ["a"], ["a"], 1)
    assert record.seen("net", "latest", ["a"], 1) == 5
    assert record.seen("net", "other", ["a"], 1) == record.seen("other", "latest", ["a"], 1) == 0
    assert Record(tmp_path / "seen").seen("net", "latest", ["a", "b"], 1) == 5
    # A claim counts as long as enough of those who made it are trusted.
    assert record.seen("net", "latest", ["b"], 1) == record.seen("net", "latest", ["a", "b"], 2) == 0
    record.remember("net", "latest", 2, ["b"], ["b"], 1)
    assert record.seen("net", "latest", ["b"], 1) == 2


def test_a_record_that_is_broken_or_cant_be_written_stops_everything(tmp_path: Path) -> None:
    record = Record(tmp_path / "seen")
    for text in ("", "[]", "{}", '{"schema_version": 2, "seen": {}}', '{"schema_version": 1, "seen": {"net": 7}}'):
        record.path.write_text(text)
        with pytest.raises(FormatError):
            record.seen("net", "latest", ["a"], 1)
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError):
        Record(tmp_path / "file" / "seen").remember("net", "latest", 1, ["a"], ["a"], 1)
