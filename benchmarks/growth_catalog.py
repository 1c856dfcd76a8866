"""The part of `growth.py` that varies the packages of a catalog: loading, lists, and whether one's clients notice the others."""

from __future__ import annotations

import asyncio
import http.client
import statistics
import time
from collections.abc import Callable
from pathlib import Path

from growth_operations import Stage, Work, asked_plans, in_a_fork  # type: ignore[import-not-found]
from servers import Server, accordion  # type: ignore[import-not-found]

from accordion.artifact.layout import Layout
from accordion.endpoint.catalog import Catalog

__all__ = ["NAMES", "measure_catalog"]

Note = Callable[..., None]  # operation, size, seconds, bytes at most, processor seconds
ONCE = 3000  # packages: larger catalogs are loaded once for each operation
ASKED = 20  # times, of which the median counts
PATHS = {
    "list of all": "/v2/_catalog",
    "list of 100": "/v2/_catalog?n=100",
    "health": "/healthz",
    "unknown name": "/v2/unknown/manifests/latest",
}


def loaded(stage: Stage) -> Work:
    """As every worker does at the start."""
    return lambda: Catalog([stage.package])


def looked_again(stage: Stage) -> Work:
    """The folders are searched for packages again, and nothing has changed."""
    catalog = Catalog([stage.package], rescan_s=0.0)
    return catalog.refresh


def reloaded(stage: Stage) -> Work:
    """One package has another version; its next request reads it."""
    reset(stage.package)
    catalog = Catalog([stage.package], rescan_s=0.0)
    name = catalog.names()[0]

    def work() -> None:
        publish(stage.package / name)
        if "again" not in (asyncio.run(catalog.snapshot(name)) or catalog).tags:  # type: ignore[union-attr]
            raise ValueError("the new version is not there")

    return work


def publish(package: Path) -> None:
    """Another tag, and away with the one before: the index changes every time."""
    layout = Layout.open(package)
    manifest = layout.manifest("latest")
    raw = (package / "index.json").read_bytes()
    layout.add_version("again", manifest)
    if (package / "index.json").read_bytes() == raw:
        raise ValueError("the index has not changed")


OPERATIONS = {"catalog load": loaded, "search for new packages": looked_again, "reload of one": reloaded}
OF_AN_ENDPOINT = ("start of the endpoint", "plan over HTTP", "reload of one over HTTP", *PATHS)
NAMES = (*OPERATIONS, *OF_AN_ENDPOINT)
"""All that is measured here."""


def measure_catalog(folder: Path, sizes: list[int], repeat: int, only: list[str] | None, note: Note) -> None:
    def wanted(name: str) -> bool:
        return not only or name in only

    for size in sizes:
        where = folder / str(size) / "packages"
        small = folder / str(sizes[0]) / "packages"
        for name, operation in OPERATIONS.items():
            for _ in range((repeat if size < ONCE else 1) if wanted(name) else 0):
                stages = [Stage(path, path, "", None) for path in (small, where)]
                found = in_a_fork((operation, stages[0]), (operation, stages[1]))
                note(name, size, found.seconds, found.peak_bytes, found.processor_s)
        if any(map(wanted, OF_AN_ENDPOINT)):
            began = time.perf_counter()
            with accordion(str(where)) as endpoint:
                note("start of the endpoint", size, time.perf_counter() - began, endpoint.memory_bytes())
                for _ in range(repeat):
                    asked(endpoint, where, size, wanted, note)


def reset(where: Path) -> None:
    """The first package as it was made."""
    first = min(where.iterdir())
    template = where.parent / "template" / "net" / "index.json"
    (first / "index.json").write_bytes(template.read_bytes())


def asked(endpoint: Server, where: Path, size: int, wanted: Callable[[str], bool], note: Note) -> None:
    first = min(where.iterdir())
    if wanted("plan over HTTP"):
        note("plan over HTTP", size, statistics.median(asked_plans(Stage(first, where, endpoint.url, None))), None)
    if wanted("reload of one over HTTP"):
        times = []
        for _ in range(5):
            reset(where)
            get(endpoint, f"/v2/{first.name}/tags/list")
            publish(first)
            times.append(get(endpoint, f"/v2/{first.name}/tags/list"))
        note("reload of one over HTTP", size, statistics.median(times), None)
    for name, path in PATHS.items():
        if wanted(name):
            note(name, size, statistics.median(get(endpoint, path) for _ in range(ASKED)), None)


def get(endpoint: Server, path: str) -> float:
    """Seconds of one answer, on a connection of its own."""
    began = time.perf_counter()
    link = http.client.HTTPConnection(endpoint.url.removeprefix("http://"))
    link.request("GET", path)
    link.getresponse().read()
    link.close()
    return time.perf_counter() - began
