"""What `deploy/` holds, against the endpoint that is there: its options, its paths, its metrics."""

from __future__ import annotations

import ipaddress
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
import yaml

from accordion.cli.app import build_parser
from accordion.endpoint import create_app
from accordion.endpoint.limits import Limits
from accordion.endpoint.openapi import openapi
from accordion.endpoint.server import Front
from accordion.units import parse_seconds

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
GOLDEN = ROOT / "tests" / "golden"


def kubernetes() -> dict[str, Any]:
    """Kind → manifest."""
    found = {}
    for path in sorted((DEPLOY / "kubernetes").glob("*.yaml")):
        document = yaml.safe_load(path.read_text())
        found[document["kind"]] = document
    return found


def compose() -> Any:
    return yaml.safe_load((DEPLOY / "compose.yaml").read_text())


def container_command() -> list[str]:
    match = re.search(r"^CMD (\[.*\])$", (DEPLOY / "Containerfile").read_text(), re.MULTILINE)
    assert match is not None
    found: list[str] = json.loads(match[1])
    return found


def commands() -> Iterator[tuple[str, list[str]]]:
    yield "Containerfile", container_command()
    for name, service in compose()["services"].items():
        if name.startswith("endpoint"):
            yield f"compose {name}", service["command"]
    (container,) = kubernetes()["Deployment"]["spec"]["template"]["spec"]["containers"]
    yield "kubernetes", container["args"]


@pytest.mark.parametrize(("where", "command"), list(commands()))
def test_every_command_is_one_that_the_endpoint_takes(where: str, command: list[str]) -> None:
    arguments = build_parser().parse_args(command)
    assert (arguments.command, arguments.host, arguments.port) == ("serve", "0.0.0.0", 8080)
    assert [str(path) for path in arguments.directories] == ["/packages"]


def test_the_container_is_not_root_and_writes_nothing() -> None:
    text = (DEPLOY / "Containerfile").read_text()
    assert re.search(r"^USER [1-9]\d*:[1-9]\d*$", text, re.MULTILINE)
    for service in ("endpoint-1", "endpoint-2"):
        found = compose()["services"][service]
        assert found["read_only"]
        assert found["cap_drop"] == ["ALL"]
        assert all(volume.endswith(":ro") for volume in found["volumes"])
    pod = kubernetes()["Deployment"]["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["containers"][0]["securityContext"]["readOnlyRootFilesystem"]
    assert not pod["automountServiceAccountToken"]
    for copied in re.findall(r"^COPY (?!--)(.+) \S+$", text, re.MULTILINE):
        assert all((ROOT / name).exists() for name in copied.split())


def test_there_is_time_to_end_transfers() -> None:
    pod = kubernetes()["Deployment"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    grace = build_parser().parse_args(container["args"]).grace
    before = float(re.search(r"sleep\((\d+)\)", str(container["lifecycle"]["preStop"])).group(1))  # type: ignore[union-attr]
    assert before + grace < pod["terminationGracePeriodSeconds"]
    service = compose()["services"]["endpoint-1"]
    assert build_parser().parse_args(service["command"]).grace < parse_seconds(service["stop_grace_period"])


def test_what_belongs_together_in_kubernetes() -> None:
    found = kubernetes()
    labels = found["Deployment"]["spec"]["template"]["metadata"]["labels"]
    assert found["Deployment"]["spec"]["selector"]["matchLabels"] == labels
    assert found["Service"]["spec"]["selector"] == labels
    assert found["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"] == labels
    assert found["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"] == labels
    (container,) = found["Deployment"]["spec"]["template"]["spec"]["containers"]
    ports = {port["name"] for port in container["ports"]}
    assert {port["targetPort"] for port in found["Service"]["spec"]["ports"]} <= ports
    get = container["readinessProbe"]["httpGet"]
    assert get["path"] in openapi()["paths"]
    assert get["port"] in ports
    for probe in ("startupProbe", "livenessProbe"):
        assert container[probe]["tcpSocket"]["port"] in ports
    mounted = {mount["name"] for mount in container["volumeMounts"]}
    volumes = found["Deployment"]["spec"]["template"]["spec"]["volumes"]
    assert mounted == {volume["name"] for volume in volumes}
    claims = {volume["persistentVolumeClaim"]["claimName"] for volume in volumes if "persistentVolumeClaim" in volume}
    assert claims == {found["PersistentVolumeClaim"]["metadata"]["name"]}
    listed = found["Kustomization"]["resources"]
    assert {*listed, "kustomization.yaml"} == {path.name for path in (DEPLOY / "kubernetes").iterdir()}
    if shutil.which("kubectl") is not None:
        done = subprocess.run(
            ["kubectl", "kustomize", str(DEPLOY / "kubernetes")], capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, done.stderr
        assert len(list(yaml.safe_load_all(done.stdout))) == len(listed)


def test_nobody_is_restarted_or_kept_back_before_the_first_package() -> None:
    """/healthz says 503 until something is published; only whether requests come may hang on that."""
    (container,) = kubernetes()["Deployment"]["spec"]["template"]["spec"]["containers"]
    assert [probe for probe in container if probe.endswith("Probe") and "httpGet" in container[probe]] == ["readinessProbe"]
    for service in compose()["services"].values():
        waits = service.get("depends_on", {})
        conditions = [how["condition"] for how in waits.values()] if isinstance(waits, dict) else []
        assert set(waits) <= set(compose()["services"])
        assert "service_healthy" not in conditions


def test_fixed_addresses_are_given_to_nobody_else() -> None:
    fixed = {}
    for name, service in compose()["services"].items():
        networks = service.get("networks", {})
        for network, how in networks.items() if isinstance(networks, dict) else ():
            if address := (how or {}).get("ipv4_address"):
                fixed[name, network] = ipaddress.ip_address(address)
    assert fixed
    for (name, network), address in fixed.items():
        (pool,) = compose()["networks"][network]["ipam"]["config"]
        subnet, given = ipaddress.ip_network(pool["subnet"]), ipaddress.ip_network(pool["ip_range"])
        assert address in subnet and given.subnet_of(subnet)  # type: ignore[arg-type]
        assert address not in given, f"{name} may find its address taken"
    trusted = build_parser().parse_args(compose()["services"]["endpoint-1"]["command"]).trusted_proxy
    assert trusted == [str(fixed["nginx", "default"])]


def mounted(service: str) -> dict[str, Path]:
    """Path in the container → file here, of what `compose.yaml` mounts."""
    found = {}
    for volume in compose()["services"][service]["volumes"]:
        source, target, mode = volume.split(":")
        assert mode == "ro"
        found[target] = DEPLOY / source
    return found


def test_grafana_finds_the_dashboard_and_its_figures() -> None:
    files = mounted("grafana")
    assert all(path.is_file() for path in files.values())
    provisioning = {kind: f"/etc/grafana/provisioning/{kind}/accordion.yaml" for kind in ("datasources", "dashboards")}
    settings = {kind: yaml.safe_load(files[target].read_text()) for kind, target in provisioning.items()}
    assert {one["apiVersion"] for one in settings.values()} == {1}
    (provider,) = settings["dashboards"]["providers"]
    assert provider["type"] == "file"
    (board,) = [path for target, path in files.items() if Path(target).is_relative_to(provider["options"]["path"])]
    dashboard = json.loads(board.read_text())
    (source,) = settings["datasources"]["datasources"]
    (variable,) = dashboard["templating"]["list"]
    assert (variable["type"], variable["query"]) == ("datasource", source["type"])
    assert source["isDefault"] and source["access"] == "proxy"
    for panel in dashboard["panels"]:
        assert panel["datasource"] == {"type": source["type"], "uid": f"${{{variable['name']}}}"}
    where = urlsplit(source["url"])
    service = compose()["services"][where.hostname]
    assert "prometheus" in service["image"] and where.port == 9090
    assert service["profiles"] == compose()["services"]["grafana"]["profiles"]
    assert mounted("prometheus") == {"/etc/prometheus/prometheus.yml": DEPLOY / "prometheus.yaml"}


async def test_a_prometheus_that_goes_by_annotations_may_see_the_metrics(tmp_path: Path) -> None:
    """It shows no token: beside the annotations stands what the file of tokens must say for that, and it is enough."""
    text = (DEPLOY / "kubernetes" / "deployment.yaml").read_text()
    template = kubernetes()["Deployment"]["spec"]["template"]
    (container,) = template["spec"]["containers"]
    path, port = (template["metadata"]["annotations"][f"prometheus.io/{name}"] for name in ("path", "port"))
    assert path in openapi()["paths"] and int(port) in [one["containerPort"] for one in container["ports"]]
    assert build_parser().parse_args(container["args"]).tokens is not None
    before = text.split("annotations:")[0].splitlines()[-4:]
    (said,) = [line.strip().removeprefix("#").strip() for line in before if '"anonymous"' in line]
    (tmp_path / "tokens.json").write_text(said.replace("[…]", "[]"))
    app = create_app([GOLDEN / "trees"], tokens=tmp_path / "tokens.json")
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://endpoint") as client:
        assert (await client.get(path)).status_code == 200
        assert (await client.get("/v2/trees/manifests/latest")).status_code == 401


async def exposed() -> set[str]:
    """The names of all metrics, as /metrics has them."""
    app = create_app([GOLDEN / "trees"])
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://endpoint") as client:
        await client.post("/v2/trees/_accordion/plan", json={})
        text = (await client.get("/metrics")).text
    return set(re.findall(r"^(accordion_[a-z_]+)", text, re.MULTILINE))


async def test_the_dashboard_shows_only_what_is_measured() -> None:
    dashboard = json.loads((DEPLOY / "grafana-dashboard.json").read_text())
    shown = set()
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            shown |= set(re.findall(r"accordion_[a-z_]+", target["expr"]))
    assert len(shown) > 10
    assert shown <= await exposed()
    identifiers = [panel["id"] for panel in dashboard["panels"]]
    assert len(set(identifiers)) == len(identifiers)


async def test_every_metric_is_documented_and_nothing_else() -> None:
    text = (ROOT / "docs" / "serving.md").read_text()
    documented = set(re.findall(r"^\| `(accordion_[a-z_]+)`", text, re.MULTILINE))
    measured = {re.sub(r"_(bucket|sum|count)$", "", name) for name in await exposed() if not name.endswith("_created")}
    assert measured == documented


def test_prometheus_asks_the_endpoints_that_there_are() -> None:
    (job,) = yaml.safe_load((DEPLOY / "prometheus.yaml").read_text())["scrape_configs"]
    targets = [target.partition(":")[0] for one in job["static_configs"] for target in one["targets"]]
    assert set(targets) == {name for name in compose()["services"] if name.startswith("endpoint")}


def serve_options() -> dict[str, Any]:
    """Option → argparse's action."""
    actions = build_parser()._subparsers._group_actions[0].choices["serve"]._actions  # type: ignore[union-attr,index,call-overload]
    return {action.option_strings[-1]: action for action in actions if action.option_strings and action.dest != "help"}


def test_every_option_of_serve_is_documented_and_no_other() -> None:
    documented = re.findall(r"^\| `(--[a-z-]+)`", (ROOT / "docs" / "serving.md").read_text(), re.MULTILINE)
    assert sorted(serve_options()) == sorted(documented)


def test_the_documented_defaults_are_the_defaults() -> None:
    rows = dict(re.findall(r"^\| `(--[a-z-]+)` \| [^|]* \| ([^|]*) \|", (ROOT / "docs" / "serving.md").read_text(), re.MULTILINE))
    checked = 0
    for option, action in serve_options().items():
        for defaults in (Limits(), Front()):
            if hasattr(defaults, action.dest):
                text = rows[option].strip()
                assert (None if text == "none" else action.type(text)) == getattr(defaults, action.dest), option
                checked += 1
    assert checked == 13
