"""The commands: three to be protected, and those that keep a repository."""

from __future__ import annotations

import json
import shutil
import stat
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from mirror import GOLDEN, NAME, Shop  # type: ignore[import-not-found]

from accordion.artifact.layout import Layout
from accordion.cli.app import main
from accordion.endpoint import create_app, export
from accordion.endpoint.tuf_export import export_tuf
from accordion.errors import UsageError
from serving import serving


class Commands:
    """Gives commands, and says what came of them."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.capsys = capsys

    def code(self, *arguments: str | Path) -> tuple[int, str]:
        """The exit code, and what was said to a person."""
        self.capsys.readouterr()
        code = main([str(one) for one in arguments])
        said = self.capsys.readouterr()
        assert "Traceback" not in said.err
        return code, said.err

    def __call__(self, *arguments: str | Path) -> Any:
        """The answer of a command that must do."""
        self.capsys.readouterr()
        code = main([*(str(one) for one in arguments), "--json"])
        said = self.capsys.readouterr()
        assert code == 0, said.err
        return json.loads(said.out)


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Commands:
    """With a home of its own, so that what is trusted here is trusted nowhere else."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("ACCORDION_TRUST", raising=False)
    monkeypatch.delenv("ACCORDION_KEY_PASSWORD", raising=False)
    monkeypatch.chdir(tmp_path)
    np.save(tmp_path / "x.npy", np.zeros((1, 4), np.float32))
    return Commands(capsys)


def test_three_commands_and_nothing_unsigned_runs(shop: Shop, command: Commands, tmp_path: Path) -> None:
    shop.publish()
    command("fetch", f"{shop.source}:v1", "-o", "before")
    assert command("run", "before", "x.npy")["configuration"] == 2
    made = command("key", "maker")
    signed = command("sign", shop.package, "--key", "maker.key", "--reference", "v1")
    trusted = command("trust", "add", "maker.pub", NAME)
    assert signed["key"] == made["fingerprint"] and signed["signed"][0]["tags"] == ["v1"]
    assert Path(trusted["file"]) == tmp_path / "config" / "accordion" / "trust.json"

    assert stat.S_IMODE(Path("maker.key").stat().st_mode) == 0o600
    code, said = command.code("run", "before", "x.npy")
    assert code == 4 and "vouches" in said
    code, said = command.code("fetch", f"{shop.source}:v1", "-o", "m")
    assert code == 4 and "is not signed" in said  # at the mirror, not yet
    shop.publish()
    command("fetch", f"{shop.source}:v1", "-o", "m", "--input", "x.npy")
    assert command("run", "m", "x.npy")["configuration"] == 2
    assert command("verify", "m") == {"ok": True, "problems": []}
    assert command("show", "m")["configurations"]
    for unsigned in (("fetch", f"{shop.source}:v2", "-o", "n"), ("upgrade", "m", "--reference", "v2")):
        code, said = command.code(*unsigned)
        assert code == 4 and "is not signed" in said
    assert command.code("pull", f"{shop.source}:v2", "-o", "p")[0] == 4
    assert not Path("p").exists()
    command("pull", f"{shop.source}:v1", "-o", NAME + "-pulled")
    assert command.code("verify", shop.package)[0] == 4  # of its two versions one is not signed
    assert command.code("fetch", f"{shop.url}/other", "-o", "o")[0] == 4
    assert f"/v2/other/{'manifests'}/latest" not in shop.asked


def test_the_endpoint_plans_and_the_device_checks(shop: Shop, command: Commands) -> None:
    command("key", "maker", "--type", "ed25519")
    command("sign", shop.package, "--key", "maker.key", "--reference", "v1", "--tag", "v1", "--tag", "stable", "--sequence", "5")
    command("trust", "add", "maker.pub")
    with serving(shop.package) as url:
        command("fetch", f"{url}/{NAME}:v1", "-o", "m")
        assert command.code("fetch", f"{url}/{NAME}:v2", "-o", "n")[0] == 4
    assert command("run", "m", "x.npy")["configuration"] == 2


def test_another_file_of_rules(shop: Shop, command: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.publish()
    command("key", "maker")
    command("trust", "add", "maker.pub", "--trust", "rules.json")
    for give in (lambda *more: (*more, "--trust", "rules.json"), lambda *more: more):
        assert command.code(*give("fetch", f"{shop.source}:v1", "-o", "m"))[0] == 4
        monkeypatch.setenv("ACCORDION_TRUST", "rules.json")
    monkeypatch.setenv("ACCORDION_TRUST", "missing.json")
    for arguments in (("fetch", f"{shop.source}:v1", "-o", "m"), ("run", "m", "x.npy"), ("verify", shop.package)):
        code, said = command.code(*arguments)
        assert code == 2 and "missing.json" in said
    monkeypatch.delenv("ACCORDION_TRUST")
    Path("broken.json").write_text("{")
    assert command.code("fetch", f"{shop.source}:v1", "-o", "m", "--trust", "broken.json")[0] == 4
    command("fetch", f"{shop.source}:v1", "-o", "m")
    assert command.code("run", "m", "x.npy", "--trust", "rules.json")[0] == 4
    assert command.code("verify", "m", "--trust", "rules.json")[0] == 4


def test_rules_are_listed_and_removed(command: Commands) -> None:
    assert command("trust", "list")["rules"] == []
    for name in ("one", "two"):
        command("key", name)
    command("trust", "add", "one.pub", "team/*", "net", "--also", "two.pub", "--threshold", "2")
    rules = command("trust", "list")["rules"]
    assert [(rule["names"], len(rule["keys"]), rule["threshold"]) for rule in rules] == [("team/*", 2, 2), ("net", 2, 2)]
    command("trust", "remove", "net")
    assert [rule["names"] for rule in command("trust", "list")["rules"]] == ["team/*"]
    assert command.code("trust", "remove", "team/*") == (0, "")
    assert not Path(command("trust", "list")["file"]).exists()  # nothing is configured any more
    command("trust", "add", "one.pub", "team/*")
    for arguments in (
        ("trust", "remove", "net"),
        ("trust", "add", "one.key"),
        ("trust", "add", "missing.pub"),
        ("trust", "add", "one.pub", "--threshold", "2"),
        ("trust", "add", "one.pub", "a b"),
        ("trust", "tuf", "one.pub", "https://host/tuf"),
        ("trust",),
    ):
        assert command.code(*arguments)[0] == 2, arguments


def test_the_last_rule_of_a_named_file(
    command: Commands, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    command("key", "one")
    command("trust", "add", "one.pub", "net", "--trust", "named.json")
    assert main(["trust", "remove", "net", "--trust", "named.json"]) == 0
    assert "leave --trust out, since a file that is named and missing stops everything" in capsys.readouterr().out
    monkeypatch.setenv("ACCORDION_TRUST", "named.json")
    assert main(["doctor", "--json"]) == 1
    found = {one["check"]: one for one in json.loads(capsys.readouterr().out)["checks"]}
    assert found["trust"]["status"] == "problem" and "named.json" in found["trust"]["found"]
    command("trust", "add", "one.pub", "net")
    assert main(["trust", "remove", "net"]) == 0
    assert "unset ACCORDION_TRUST" in capsys.readouterr().out


def test_what_a_signature_without_a_version_is_good_for(shop: Shop, command: Commands) -> None:
    """It is for devices that name no tag; `--reference` and `--tag` are for those that do."""
    command("key", "maker")
    shop.name("v2", "latest")
    assert command("sign", shop.package, "--key", "maker.key")["signed"][0]["tags"] == ["v2", "latest"]
    assert command("sign", shop.package, "--key", "maker.key", "--reference", "v1")["signed"][0]["tags"] == ["v1"]
    code, said = command.code("sign", shop.package, "--key", "maker.key", "--reference", "v1", "--tag", "v3")
    assert code == 0 and "has no version v3" in said
    shutil.copytree(shop.package, "My Net")
    code, said = command.code("sign", "My Net", "--key", "maker.key", "--reference", "v1")
    assert code == 2 and "give --name" in said


def test_keys_with_passwords(shop: Shop, command: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("password").write_text("a secret\nmore\n")
    assert command("key", "maker", "--password-file", "password")["encrypted"]
    sign = ("sign", shop.package, "--key", "maker.key", "--reference", "v1")
    code, said = command.code(*sign)
    assert code == 2 and "is encrypted" in said
    monkeypatch.setenv("ACCORDION_KEY_PASSWORD", "wrong")
    assert command.code(*sign)[0] == 2
    monkeypatch.setenv("ACCORDION_KEY_PASSWORD", "a secret")
    command(*sign)
    command(*sign, "--password-file", "password")
    for arguments in (
        ("key", "maker"),
        ("key", "no/such/folder/key"),
        ("key", "other", "--password-file", "missing"),
        (*sign[:3], "maker.pub"),
        (*sign[:3], "missing.key"),
        (*sign[:4], "--reference", "v9"),
        (*sign, "--tag", "not a tag"),
        (*sign, "--name", "not a name"),
        (*sign, "--sequence", "-1"),
    ):
        assert command.code(*arguments)[0] in (1, 2), arguments
    Path("password").write_text("\n")
    assert command.code("key", "other", "--password-file", "password")[0] == 2
    assert not Path("other.key").exists()


def test_what_is_signed_where_no_version_is_named(shop: Shop, command: Commands, tmp_path: Path) -> None:
    command("key", "maker")
    code, said = command.code("sign", shop.package, "--key", "maker.key")
    assert code == 2 and "v1, v2" in said  # two versions that are not forms of one network
    shop.name("v2", "latest")
    signed = command("sign", shop.package, "--key", "maker.key")["signed"]
    assert [row["manifest"] for row in signed] == [shop.digest("v2")]
    assert sorted(signed[0]["tags"]) == ["latest", "v2"]


def test_forms_of_one_network_are_equally_new(command: Commands, tmp_path: Path) -> None:
    from test_trust_forms import add_form  # type: ignore[import-not-found]

    for tag in ("full", "small"):
        add_form(tmp_path / "forms", tag)
    command("key", "maker")
    signed = command("sign", "forms", "--key", "maker.key")
    assert sorted(row["tags"][0] for row in signed["signed"]) == ["full", "small"]


def test_a_repository_by_commands(shop: Shop, command: Commands) -> None:
    made = command("tuf", "init", "repo", "--keys", "keys", "--threshold", "targets=2", "--days", "timestamp=2")
    assert set(made["expires"]) == {"root", "timestamp", "snapshot", "targets"}
    assert {path.name for path in Path("keys").iterdir()} == {
        *("root-1.key", "timestamp-1.key", "snapshot-1.key", "targets-1.key", "targets-2.key")
    }
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in Path("keys").iterdir())
    listed = command("tuf", "add", "repo", shop.package, "--keys", "keys")["listed"]
    assert listed == {f"{NAME}/v1": shop.digest("v1"), f"{NAME}/v2": shop.digest("v2")}
    with serving(shop.package) as url:
        assert httpx.get(f"{url}/tuf/timestamp.json").status_code == 404
    shop.publish()
    command("export", shop.package, shop.static, "--tuf", "repo")
    command("trust", "tuf", "repo/1.root.json", f"{shop.url}/tuf", NAME)
    assert command("trust", "list")["rules"][0]["tuf"]["after_expiry"] == "run"
    command("fetch", f"{shop.source}:v1", "-o", "m")
    assert command("verify", shop.package)["ok"]
    command("tuf", "remove", "repo", f"{NAME}:v2", "--keys", "keys")
    command("tuf", "renew", "repo", "snapshot", "timestamp", "--keys", "keys")
    rotated = command("tuf", "rotate", "repo", "targets", "--keys", "keys")
    assert rotated["listed"] == {f"{NAME}/v1": shop.digest("v1")}
    assert Path("keys/targets-4.key").exists()
    command("export", shop.package, shop.static, "--tuf", "repo")
    code, said = command.code("upgrade", "m", "--reference", "v2")
    assert code == 4 and "lists another manifest" in said
    command("fetch", f"{shop.source}:v1", "-o", "n")
    assert command("run", "n", "x.npy")["configuration"] == 2
    assert command("tuf", "list", "repo")["listed"] == rotated["listed"]
    shutil.rmtree("keys/", ignore_errors=True)
    Path("few").mkdir()
    for arguments in (
        ("tuf", "add", "repo", shop.package, "--keys", "keys"),
        ("tuf", "add", "repo", shop.package, "--keys", "few"),
        ("tuf", "init", "repo", "--keys", "few"),
        ("tuf", "init", "new", "--keys", "few", "--threshold", "targets"),
        ("tuf", "init", "new", "--keys", "few", "--days", "root=0"),
        ("tuf", "list", "nothing"),
        ("tuf", "list", str(GOLDEN)),
        ("export", shop.package, "static", "--tuf", str(GOLDEN)),
        ("serve", shop.package, "--port", "0", "--tuf", str(GOLDEN)),
    ):
        assert command.code(*arguments)[0] == 2, arguments
    assert list(Path("few").iterdir()) == []


async def test_the_endpoint_shows_a_repository_and_nothing_else_of_its_folder(
    shop: Shop, command: Commands, tmp_path: Path
) -> None:
    command("tuf", "init", "repo", "--keys", "repo-keys")
    Path("repo/secret.key").write_text("not for everybody")
    written = {path.name for path in export_tuf(Path("repo"), tmp_path / "out")}
    assert written == {"1.root.json", "1.targets.json", "1.snapshot.json", "timestamp.json"}
    with pytest.raises(UsageError, match="no repository"):
        create_app([shop.package], tuf=tmp_path)
    transport = httpx.ASGITransport(app=create_app([shop.package], tuf="repo"))
    async with httpx.AsyncClient(transport=transport, base_url="http://endpoint") as client:
        for name in written:
            answer = await client.get(f"/tuf/{name}")
            assert answer.status_code == 200
            assert answer.content == (tmp_path / "out" / "tuf" / name).read_bytes()
            assert ("no-cache" in answer.headers["Cache-Control"]) == (name == "timestamp.json")
        for name in ("secret.key", ".lock", "2.root.json", "root.json", "..%2Fx.npy", "1.root.json%00", "%2e%2e", "01.root.json"):
            assert (await client.get(f"/tuf/{name}")).status_code == 404, name
    assert Layout.open(shop.package).tags()


@pytest.mark.parametrize("name", ["team/net", "v1.0/net", "localhost/net"])
def test_a_package_of_another_name_than_its_directory(shop: Shop, command: Commands, tmp_path: Path, name: str) -> None:
    """Also of one that begins as a host would."""
    command("key", "maker")
    for tag in ("v1", "v2"):
        command("sign", shop.package, "--key", "maker.key", "--name", name, "--reference", tag)
    command("trust", "add", "maker.pub", name)
    assert command("verify", shop.package, "--name", name)["ok"]
    code, said = command.code("verify", shop.package)
    assert code == 4 and "no rule" in said
    export(shop.package, shop.static, name=name)
    command("fetch", f"{shop.url}/{name}:v1", "-o", "m")
    assert command("verify", "m")["ok"]
    assert command.code("verify", "m", "--name", name)[0] == 2
