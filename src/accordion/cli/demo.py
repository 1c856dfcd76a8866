"""`accordion demo`: all of it on an embedded default, by the same commands that a user would give."""

from __future__ import annotations

import argparse
import json
import shlex
import shutil
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

from accordion.cli.console import Context
from accordion.cli.demo_steps import Endpoint, Steps
from accordion.cli.extras import extra
from accordion.errors import StorageError, UnmeetableError, UsageError
from accordion.units import format_bytes, format_seconds

__all__ = ["add", "execute"]

PICTURES = 12  # test digits whose predictions are watched
LINK = "2Mbps"
RTT = "20ms"
DEADLINE = "700ms"
INSTEAD = "100kB"  # what comes within about as long
KEPT = 2  # the configuration that the device sheds down to
MARK = ".accordion-demo"  # lies in a folder whose model is a demonstration's own
MARK_SAYS = b"accordion demo made what is here. When it runs again, it deletes the folder model and fetches it anew.\n"
HERE = "127.0.0.1"  # where the endpoint answers


def add(commands: Any) -> argparse.ArgumentParser:
    """The command's arguments."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "demo",
        help="all of it, on an embedded default",
        description="Trains, profiles, packages, serves, fetches under a deadline, runs before everything has arrived, upgrades "
        "and sheds, on scikit-learn's digits. Takes a minute or two.",
    )
    parser.add_argument(
        "-o", "--out", type=Path, default=Path("demo-output"), metavar="DIR", help="where to leave it (demo-output)"
    )
    return parser


def execute(arguments: argparse.Namespace, context: Context) -> int:
    """Runs the commands one after the other; the first that fails ends the demonstration with its exit code."""
    with extra("train"):
        from accordion.data import load
    with extra("endpoint"):
        import accordion.endpoint  # noqa: F401  said here, not after a minute of training

    out: Path = arguments.out
    began = time.monotonic()
    dataset = load("digits")
    # The demonstration runs only what it makes itself, whatever this device is configured to trust.
    alone = {"ACCORDION_TRUST": "", "XDG_CONFIG_HOME": str((out / ".config").absolute())}
    direct = _past_the_proxy()
    steps = Steps(sys.stderr if context.console.as_json else sys.stdout, alone | direct)
    _clear(out)
    if direct:
        value = shlex.quote(direct["NO_PROXY"])
        steps.say(f"The environment names a proxy, for which {HERE} is itself: the commands below have NO_PROXY={value} set.")
    watched, truth = out / "digits.npy", [dataset.classes[label] for label in dataset.test.y[:PICTURES]]
    _write_pictures(watched, dataset.test.x[:PICTURES])
    run, package, model = str(out / "run"), str(out / "digits"), str(out / "model")

    steps.say("1. Train a small network so that it works with only some of its blocks (half a minute).")
    # So small a network gains nothing from threads, and loses much where the cores are busy.
    steps.run(
        *("train", "--dataset", "digits", "--network", "resnet20", "--epochs", "16", "--batch", "64", "--learning-rate", "0.1"),
        *("-o", run),
        environment={"OMP_NUM_THREADS": "1"},
    )
    steps.say("2. Measure how good each of its configurations is, and what it costs.")
    steps.run("profile", run)
    steps.say("3. Package it: every prefix of the package is a network that runs.")
    steps.run("package", run, "-o", package)
    steps.run("show", package)

    steps.say("4. Serve it.")
    with Endpoint(steps, package) as endpoint:
        source = f"{endpoint.url}/digits"
        steps.say(f"5. Ask what a device could have within {DEADLINE} over a link of {LINK}.")
        steps.run("plan", source, "--deadline", DEADLINE, "--throughput", LINK, "--rtt", RTT)
        steps.say(
            f"6. Fetch it over such a link. {PICTURES} digits are recognised by each configuration as soon as it is whole.",
            f"The right answers are          {' '.join(truth)}",
        )
        link = ("--throughput", LINK, "--rtt", RTT, "--limit-rate", LINK, "--limit-rtt", RTT, "--input", str(watched))
        fetch = ("fetch", source, "-o", model, *link, "--timeline", str(out / "fetch.json"))
        if steps.run(*fetch, "--deadline", DEADLINE, may_end_with=UnmeetableError.exit_code):
            steps.say(f"This machine is too busy to keep {DEADLINE} of real time: nothing was whole by then. So by bytes instead:")
            steps.run(*fetch, "--max-bytes", INSTEAD)
        fetched = _finish_timeline(out / "fetch.json", truth)
        steps.say("7. Run what has arrived; the endpoint is not needed for it.")
        steps.run("run", model, str(watched))
        steps.say("8. Later the device wants more: only what is missing is sent, and the network runs all the while.")
        steps.run("upgrade", model, *link, "--timeline", str(out / "upgrade.json"))
        upgraded = _finish_timeline(out / "upgrade.json", truth)
    steps.say("9. With little battery left, run a fraction of what is there; then give back its disk, and check the rest.")
    steps.run("run", model, str(watched), "--configuration", str(KEPT))
    steps.run("shed", model, "--to", str(KEPT))
    steps.run("show", model)
    steps.run("verify", model)
    steps.run("verify", package)
    steps.say("10. Draw what happened.")
    pictures = out / "pictures"
    _make_folder(pictures)
    steps.run("picture", "ladder", package, "-o", str(pictures / "error-against-bytes"))
    steps.run("picture", "timeline", str(out / "fetch.json"), "-o", str(pictures / "fetch"))
    steps.run("picture", "timeline", str(out / "upgrade.json"), "-o", str(pictures / "upgrade"))

    seconds = time.monotonic() - began
    whole = upgraded["bytes_received"] + fetched["bytes_received"]
    first = fetched["ready"][0]["seconds"]
    lines = [
        "",
        f"The first answer came after {format_seconds(first)} and {format_bytes(_bytes_at(fetched, first))}; "
        f"the first fetch brought configuration {fetched['configuration']}.",
        f"The upgrade brought {format_bytes(upgraded['bytes_received'])} and reused {format_bytes(upgraded['bytes_reused'])}: "
        f"{format_bytes(whole)} in all.",
        f"Done in {format_seconds(seconds)}. Package, model and pictures are in {shlex.quote(str(out))}; "
        "README.md goes on from there.",
    ]
    steps.say(*lines)
    document = {"output": str(out), "seconds": seconds, "steps": steps.done, "fetch": fetched, "upgrade": upgraded}
    if context.console.as_json:
        context.console.result(document, [])
    return 0


def _past_the_proxy() -> dict[str, str]:
    """NO_PROXY, in both cases, with the endpoint's address besides what it holds; nothing where no proxy is asked for that."""
    proxies = urllib.request.getproxies()
    if not (proxies.get("http") or proxies.get("all")) or urllib.request.proxy_bypass(HERE):
        return {}
    value = ",".join(filter(None, (proxies.get("no"), HERE)))
    return {"NO_PROXY": value, "no_proxy": value}


def _clear(out: Path) -> None:
    """The demonstration's folder, without what an earlier one fetched. UsageError where a model of somebody else's lies there."""
    from accordion.artifact.atomic import write_file

    _make_folder(out)
    model, mark = out / "model", out / MARK
    try:
        if not mark.is_file() and (model.exists() or model.is_symlink()):
            raise UsageError(
                f"{model} was not made by a demonstration, whose model takes its place: move it, or name another folder with -o"
            )
        if (model / "state.json").is_file():
            shutil.rmtree(model)
    except OSError as error:
        raise StorageError(f"can't write {out}: {error.strerror or error}") from error
    write_file(mark, MARK_SAYS)


def _make_folder(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"can't write {path}: {error.strerror or error}") from error


def _write_pictures(path: Path, pixels: Any) -> None:
    """Pictures [n, 1, 8, 8] as the network takes them: float32 in 0..1."""
    import io

    import numpy as np

    from accordion.artifact.atomic import write_file

    stream = io.BytesIO()
    np.save(stream, (pixels / 255).astype(np.float32))
    write_file(path, stream.getvalue())


def _finish_timeline(path: Path, truth: list[str]) -> dict[str, Any]:
    """Adds the right answers, which a device does not know, for the picture; returns what the file says."""
    from accordion.artifact.atomic import write_file
    from accordion.cli.console import document

    data: dict[str, Any] = json.loads(path.read_text())
    data["truth"] = truth
    write_file(path, document(data).encode())
    return data


def _bytes_at(timeline: dict[str, Any], seconds: float) -> int:
    """How many bytes had arrived at a moment."""
    return max((int(row["bytes"]) for row in timeline["events"] if row["seconds"] <= seconds), default=0)
