"""`accordion policy`: makes a policy for `train --policy FILE` out of links, requests or other policies, and draws it."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from accordion.cli import options
from accordion.cli.console import Context
from accordion.cli.extras import extra
from accordion.errors import UsageError
from accordion.units import parse_seconds

if TYPE_CHECKING:
    from accordion.artifact.ladder import Ladder
    from accordion.artifact.manifest import Manifest
    from accordion.training.policies import Policy

__all__ = ["add", "execute"]

KINDS = ("communication", "demand", "mix")


def add(commands: Any) -> argparse.ArgumentParser:
    """The command's arguments."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "policy",
        help="make a training policy from links, requests or other policies",
        description="Writes how often training is to pick each configuration, as train --policy FILE reads it, and draws it. "
        "communication: as often as it is the largest that a link brings in time. demand: as often as it is asked for. "
        "mix: other policies by weight.",
    )
    parser.add_argument("kind", metavar="KIND", choices=KINDS, help="communication, demand or mix")
    parser.add_argument(
        "-o", "--out", type=Path, required=True, metavar="FILE", help="the policy, FILE.json; the picture is FILE.png"
    )
    parser.add_argument(
        "--ladder", metavar="PACKAGE|RUN", help="whose configurations: a package, a model, URL/NAME or a profiled run"
    )
    parser.add_argument(
        "--link",
        action="append",
        default=[],
        metavar="FILE[:ID]",
        help="communication: traces, speed tests or a link file; repeatable",
    )
    parser.add_argument(
        "--deadline",
        action="append",
        default=[],
        metavar="TIME[:WEIGHT],…",
        help="communication: 300ms, or 150ms:2,1s:1; repeatable",
    )
    parser.add_argument(
        "--requests",
        action="append",
        default=[],
        type=Path,
        metavar="FILE",
        help="demand: CSV, JSON lines or a request log; repeatable",
    )
    parser.add_argument("--package-name", metavar="NAME", help="demand: of a log of several packages, the one called so")
    parser.add_argument("--replan", action="store_true", help="demand: plan the limits of a log anew, over this ladder")
    parser.add_argument(
        "--mix", action="append", default=[], metavar="WEIGHT:POLICY,…", help="mix: 0.7:a.json,0.3:uniform; repeatable"
    )
    parser.add_argument("--floor", type=options.number, metavar="P", help="at least so much for the complete network: 0.3")
    parser.add_argument("--name", help="what the policy is called (its kind)")
    parser.add_argument("--no-picture", action="store_true", help="write the file only")
    return parser


def execute(arguments: argparse.Namespace, context: Context) -> int:
    """Makes the policy, writes it, draws it, and says what it is."""
    with extra("train"):
        from accordion.training.matched import with_floor
        from accordion.training.policies import Policy
        from accordion.training.policy_file import policy_bytes, write_policy

    made = {"communication": _communication, "demand": _demand, "mix": _mix}[arguments.kind](arguments)
    policy = Policy(arguments.name or made.policy.name, made.policy.probabilities)
    if arguments.floor is not None:
        policy = with_floor(policy, arguments.floor)
        made.options["floor"] = arguments.floor
    content = policy_bytes(policy, kind=arguments.kind, options=made.options, inputs=made.inputs, nothing=made.nothing)
    write_policy(arguments.out, content)
    files = [arguments.out]
    note = None if not made.nothing else f"{made.said}: {made.nothing:.2%} of cases, left out"
    if not arguments.no_picture:
        with extra("train"):
            from accordion.pictures import draw_policy
        stem = arguments.out.with_suffix("") if arguments.out.suffix == ".json" else arguments.out
        files += draw_policy(policy.probabilities, stem, title=policy.name, note=note)
    value = {
        "policy": str(arguments.out),
        "name": policy.name,
        "probabilities": list(policy.probabilities),
        "nothing": made.nothing,
        "files": [str(path) for path in files],
    }
    context.console.result(value, [*_lines(policy), *([note] if note else []), *(f"wrote {path}" for path in files)])
    return 0


@dataclass(frozen=True, slots=True)
class _Made:
    policy: Policy
    nothing: float | None
    options: dict[str, Any]
    inputs: list[dict[str, Any]]
    said: str = ""


def _communication(arguments: argparse.Namespace) -> _Made:
    from accordion.planning.links import link_from
    from accordion.training.matched import ROUND_TRIPS, communication
    from accordion.training.policy_file import read_input

    _refuse(arguments, "requests", "mix", "replan", "package_name")
    if not arguments.link or not arguments.deadline:
        raise UsageError("a policy for communication needs --link FILE and --deadline TIME")
    rungs = _rungs(arguments)
    found = [(read_input(path), choice) for path, choice in map(_file_and_choice, arguments.link)]
    link = link_from([(one.name, one.content, choice) for one, choice in found], fresh=False)
    deadlines = [pair for text in arguments.deadline for pair in _deadlines(text)]
    matched = communication(rungs.needed, link, deadlines)
    said = {
        "deadlines": [{"seconds": seconds, "weight": weight} for seconds, weight in deadlines],
        "round_trips": ROUND_TRIPS,
        "bytes": rungs.bytes_are,
    }
    inputs = [{**one.to_json(), **({"id": choice} if choice else {})} for one, choice in found]
    return _Made(matched.policy, matched.nothing, said, [rungs.identity, *inputs], "nothing arrives in time")


def _demand(arguments: argparse.Namespace) -> _Made:
    from accordion.training.matched import demand
    from accordion.training.policy_file import read_input
    from accordion.training.requests import parse_requests

    _refuse(arguments, "link", "deadline", "mix")
    if not arguments.requests:
        raise UsageError("a policy for demand needs --requests FILE")
    rungs = _rungs(arguments)
    found = [read_input(path) for path in arguments.requests]
    asks = [ask for one in found for ask in parse_requests(one.text(), one.name, arguments.package_name)]
    names = sorted({ask.name for ask in asks if ask.name is not None})
    if arguments.package_name is None and len(names) > 1:
        raise UsageError(f"the requests are for {', '.join(names[:5])}: choose one by --package-name")
    matched = demand(asks, len(rungs.needed), rungs.version, replan=arguments.replan)
    said: dict[str, Any] = {"replan": arguments.replan, "asks": sum(ask.count for ask in asks)}
    if arguments.package_name is not None:
        said["package_name"] = arguments.package_name
    inputs = [rungs.identity, *(one.to_json() for one in found)]
    return _Made(matched.policy, matched.nothing, said, inputs, "what is asked for can't be had")


def _mix(arguments: argparse.Namespace) -> _Made:
    from accordion.training.matched import mixed
    from accordion.training.policies import named, parse
    from accordion.training.policy_file import read_input

    _refuse(arguments, "link", "deadline", "requests", "replan", "package_name")
    parts = [pair for text in arguments.mix for pair in _weighted(text)]
    if not parts:
        raise UsageError("a mixture needs --mix WEIGHT:POLICY,…")
    files = {text: read_input(Path(text)) for _, text in parts if text.endswith(".json")}
    policies = {text: parse(one.content, one.name) for text, one in files.items()}
    inputs = [one.to_json() for one in files.values()]
    if arguments.ladder is not None:
        rungs = _rungs(arguments)
        count, inputs = len(rungs.needed), [rungs.identity, *inputs]
    elif policies:
        count = len(next(iter(policies.values())))
    else:
        raise UsageError("name a policy file or --ladder, which says how many configurations there are")
    pairs = [(weight, policies[text] if text in policies else named(text, count)) for weight, text in parts]
    if len(pairs[0][1]) != count:
        raise UsageError(f"policy {pairs[0][1].name!r} is for {len(pairs[0][1])} configurations, the ladder has {count}")
    said = {"mix": [{"weight": weight, "policy": files[text].name if text in files else text} for weight, text in parts]}
    return _Made(mixed(pairs), None, said, inputs)


@dataclass(frozen=True, slots=True)
class _Rungs:
    """`needed` [K]: bytes that each configuration takes from nothing. `version` where there is a package to plan over."""

    needed: tuple[int, ...]
    bytes_are: str
    identity: dict[str, Any]
    version: tuple[Manifest, Ladder] | None


def _rungs(arguments: argparse.Namespace) -> _Rungs:
    from accordion.cli.source import open_source
    from accordion.training.policy_file import read_input

    if arguments.ladder is None:
        raise UsageError("name the network: --ladder PACKAGE or RUN")
    run = Path(arguments.ladder)
    if (run / "run.json").is_file():
        with extra("train"):
            from accordion.packaging.packager import read_ladder_fields
        rows = read_ladder_fields(run)["configurations"]
        needed = tuple(row.get("weights_bytes") for row in rows)
        if not needed or not all(isinstance(one, int) for one in needed):
            raise UsageError(f"{run} does not say how many bytes its configurations take: profile it again, or name a package")
        return _Rungs(needed, "plain weights of the run, nothing else", read_input(run / "ladder.json").to_json(), None)
    source = open_source(arguments.ladder)
    manifest = source.manifest
    needed = tuple(manifest.size + rung.bytes for rung in source.ladder.configurations)
    identity = {"package": source.label, "manifest": manifest.digest}
    return _Rungs(needed, "manifest and layers of the package", identity, (manifest, source.ladder))


def _refuse(arguments: argparse.Namespace, *names: str) -> None:
    for name in names:
        if getattr(arguments, name):
            raise UsageError(f"--{name.replace('_', '-')} says nothing about a policy of kind {arguments.kind}: leave it out")


def _file_and_choice(text: str) -> tuple[Path, str | None]:
    if Path(text).exists():
        return Path(text), None
    path, colon, choice = text.partition(":")
    return Path(path), choice if colon else None


def _pairs(text: str, example: str) -> list[tuple[str, str]]:
    pairs = []
    for piece in text.split(","):
        first, _, second = piece.partition(":")
        if not first.strip():
            raise UsageError(f"{text!r} is not a list such as {example}")
        pairs.append((first.strip(), second.strip()))
    return pairs


def _weight(text: str, whole: str) -> float:
    try:
        weight = float(text)
    except ValueError:
        raise UsageError(f"{text!r} in {whole!r} is no weight: write a number") from None
    if not 0 <= weight < float("inf"):
        raise UsageError(f"{text!r} in {whole!r} is no weight: it must be 0 or more")
    return weight


def _deadlines(text: str) -> list[tuple[float, float]]:
    return [(parse_seconds(first), _weight(second or "1", text)) for first, second in _pairs(text, "150ms:2,1s:1")]


def _weighted(text: str) -> list[tuple[float, str]]:
    pairs = _pairs(text, "0.7:a.json,0.3:uniform")
    if any(not second for _, second in pairs):
        raise UsageError(f"{text!r} is not a list of WEIGHT:POLICY, such as 0.7:a.json,0.3:uniform")
    return [(_weight(first, text), second) for first, second in pairs]


def _lines(policy: Policy) -> list[str]:
    lines = [f"policy {policy.name} for {len(policy)} configurations"]
    lines += [f"{k:3d}  {p:7.2%}" for k, p in enumerate(policy.probabilities) if p >= 5e-5]
    unseen = sum(p == 0 for p in policy.probabilities)
    return [*lines, f"{unseen} never drawn"] if unseen else lines
