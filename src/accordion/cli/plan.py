"""`accordion plan URL/NAME[:TAG]|PACKAGE`: says what would be sent, sends nothing."""

from __future__ import annotations

import argparse
import asyncio
from typing import Any

from accordion.cli import options
from accordion.cli.console import Context
from accordion.cli.limits import add_limits, link_from, request_from
from accordion.cli.source import open_relatives, open_source
from accordion.cli.table import quality_text
from accordion.errors import UsageError
from accordion.planning import Held, Plan, PlanTable, Request, make_plan
from accordion.planning.choice import choose
from accordion.planning.outlook import NEVER_S
from accordion.registry import Reference, RegistryClient, is_url, parse_reference
from accordion.units import format_bytes, format_seconds

__all__ = ["add", "execute", "make"]


def add(commands: Any) -> argparse.ArgumentParser:
    """The command's arguments."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "plan",
        help="say what would be sent, send nothing",
        description="Asks an endpoint, or works out from a package, which configuration the limits allow and what it would cost.",
    )
    parser.add_argument("source", metavar="URL/NAME[:TAG]|PACKAGE", help="a version at an endpoint, or a package directory")
    parser.add_argument("--reference", type=options.reference, metavar="TAG", help="which version (latest, else the only one)")
    parser.add_argument("--held", metavar="MODEL", help="a model folder: plan its upgrade")
    add_limits(parser)
    return parser


def execute(arguments: argparse.Namespace, context: Context) -> int:
    """The plan."""
    plan = make(arguments)
    whole = f" of {format_bytes(plan.bytes_total)}" if plan.bytes_total != plan.bytes_to_send else ""
    expected = "it is unknown when" if plan.expected_s >= NEVER_S else format_seconds(plan.expected_s)
    joules = "" if plan.expected_j is None else f", {plan.expected_j:.3g} J"
    promised = "" if plan.promised is None else f", in time with probability {plan.promised:g}"
    lines = [
        f"configuration {plan.configuration} of {plan.name}: {quality_text(plan.quality)}",
        f"{format_bytes(plan.bytes_to_send)}{whole} to send in {len(plan.layers)} layers, {expected}{joules} expected{promised}",
        plan.manifest,
    ]
    context.console.result(plan.to_json(), lines)
    return 0


def make(arguments: argparse.Namespace) -> Plan:
    """The plan, by an endpoint, or worked out here where nobody plans."""
    held, version, link = None, None, link_from(arguments)
    if arguments.held is not None:
        model = open_source(arguments.held)
        if model.complete is None:
            raise UsageError(f"{arguments.held} is no model with a complete configuration")
        held, version = Held(model.manifest.digest, model.complete), (model.manifest, model.ladder)
    if is_url(arguments.source):
        target = parse_reference(arguments.source)
        if target.reference is not None and arguments.reference is not None:
            raise UsageError(f"{target} names a version already: leave --reference out")
        request = request_from(arguments, reference=target.reference or arguments.reference, held=held)
        request = request if link is None else link.into(request)
        try:
            data = asyncio.run(_ask(target, request))
        except UsageError:
            if held is None:
                raise
            data = None  # perhaps it does not know the version that is held; here both are known, and what else is wrong is said
        if data is not None:
            return Plan.from_json(data)
    request = request_from(arguments, held=held)
    request = request if link is None else link.into(request)
    if arguments.reference is None and len(forms := open_relatives(arguments.source, prefers=request.prefer is not None)) > 1:
        tables = [PlanTable(form.manifest, form.ladder) for form in forms]
        return choose(forms[0].name, tables, request, "bytes", held=version)
    source = open_source(arguments.source, arguments.reference)
    return make_plan(source.name, source.manifest, source.ladder, request, held=version)


async def _ask(target: Reference, request: Request) -> dict[str, Any] | None:
    async with RegistryClient(target) as client:
        return await client.plan(request.to_json())
