"""Checks of the installation and of the machine it is on."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from accordion.cli.finding import Finding, fine, note, wrong
from accordion.endpoint.descriptors import CONNECTIONS, NO_LIMIT, most_open, needed, places
from accordion.errors import AccordionError
from accordion.extras import how_to_install
from accordion.units import format_bytes

__all__ = ["check_clock", "check_folder", "check_limits", "check_python", "check_requirements", "check_runtime", "check_trust"]

LEAST_PYTHON = (3, 11)
LEAST_SPACE = 200 * 10**6  # bytes: a few versions of a large network for a small device, and what is on its way
WRITTEN_S = 1_767_225_600  # 2026-01-01: no clock that is right shows an earlier time
_REQUIREMENT = re.compile(r"([A-Za-z0-9._-]+)\s*(?:\[[^]]*\])?\s*\(?([^;)]*)\)?\s*(?:;\s*(.*))?")
_EXTRA = re.compile(r"extra\s*==\s*['\"]([^'\"]+)['\"]")


def check_python(found: Sequence[int] = tuple(sys.version_info[:3])) -> Finding:
    """Whether Python is new enough."""
    text = ".".join(map(str, found[:3]))
    if tuple(found[:2]) < LEAST_PYTHON:
        return wrong("python", f"Python {text}", f"install Python {'.'.join(map(str, LEAST_PYTHON))} or newer")
    return fine("python", f"Python {text}")


def check_requirements(declared: Sequence[str] | None = None) -> Iterator[Finding]:
    """Each library in the version that is needed. What an extra needs is a note, once for each extra.

    `declared` are requirements as a package's metadata has them, left out: this package's.
    """
    if declared is None:
        try:
            declared = requires("accordion-ml") or []
        except PackageNotFoundError:
            yield note("libraries", "accordion-ml itself is not installed", "in its source folder, `pip install .` or `make`")
            return
    lacking: dict[str, list[str]] = {}
    for text in declared:
        match = _REQUIREMENT.fullmatch(text.strip())
        if match is None or match[1] == "accordion-ml":
            continue
        name, bounds, marker = match[1], match[2].strip(), match[3] or ""
        extra = _EXTRA.search(marker)
        problem = _problem(name, bounds)
        if extra is not None:
            lacking.setdefault(extra[1], [])
            if problem is not None:
                lacking[extra[1]].append(problem)
        elif problem is None:
            yield fine("libraries", f"{name} {version(name)}")
        else:
            yield wrong("libraries", problem, f"pip install --upgrade '{name}{bounds}'")
    for extra_name, problems in sorted(lacking.items()):
        if problems:
            yield note(f"extra {extra_name}", "; ".join(problems), f"if you need it: {how_to_install(extra_name)}")
        else:
            yield fine(f"extra {extra_name}", "complete")


def check_runtime() -> Finding:
    """Whether ONNX Runtime runs the smallest network there can be."""
    advice = "pip install --force-reinstall onnxruntime onnx numpy; on unusual machines, install the build that is made for them"
    try:
        import numpy as np
        import onnxruntime
        from onnx import TensorProto, helper

        ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2]) for name in ("x", "y")]
        graph = helper.make_graph([helper.make_node("Add", ["x", "x"], ["y"])], "doctor", ends[:1], ends[1:])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        (found,) = session.run(None, {"x": np.array([1.0, 2.0], np.float32)})
        if found.tolist() != [2.0, 4.0]:
            return wrong("inference", f"ONNX Runtime adds 1 to 1 and gets {found.tolist()[0]}", advice)
    except Exception as error:  # whatever a broken installation raises is the finding
        return wrong("inference", f"ONNX Runtime can't run a network: {' '.join(str(error).split())[:200]}", advice)
    return fine("inference", f"ONNX Runtime {onnxruntime.__version__} runs a network")


def check_folder(folder: Path) -> Iterator[Finding]:
    """Whether models can be kept here: writing, locking, renaming, and room."""
    check = "folder"
    try:
        if not folder.is_dir():
            yield wrong(check, f"there is no folder {folder}", "make it, or name another one with --folder")
            return
        with tempfile.TemporaryDirectory(dir=folder, prefix=".accordion-doctor-") as made:
            first, second = Path(made) / "first", Path(made) / "second"
            with first.open("wb") as stream:
                stream.write(b"x")
                stream.flush()
                os.fsync(stream.fileno())
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.replace(first, second)  # noqa: PTH105
        free = shutil.disk_usage(folder).free
    except OSError as error:
        yield wrong(check, f"{folder} can't be used: {error.strerror or error}", "a local folder that you may write to is needed")
        return
    yield fine(check, f"{folder} can be written and locked")
    if free < LEAST_SPACE:
        yield wrong(
            "space",
            f"{format_bytes(free)} free in {folder}",
            "make room; `accordion shed` gives back what lies above a configuration",
        )
    else:
        yield fine("space", f"{format_bytes(free)} free")


def check_clock(now_s: float | None = None) -> Finding:
    """Whether the clock shows a time that can be: certificates, tokens and signatures hang on it."""
    now_s = time.time() if now_s is None else now_s
    shown = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(now_s))
    if not WRITTEN_S <= now_s < WRITTEN_S + 50 * 365 * 86400:
        return wrong("clock", f"it shows {shown}", "set it: certificates, tokens and signatures are judged by it")
    return fine("clock", shown)


def check_limits() -> Finding:
    """Whether an endpoint, which raises its own limit as far as it may, has descriptors for all connections that it would take."""
    most = most_open()
    found = f"{most} files may be open at once" if most < NO_LIMIT else "unlimited"
    if (room := places(most)) < CONNECTIONS:
        advice = f"before serving many devices, raise the hard limit to {needed(CONNECTIONS)} or more (ulimit -n)"
        return note("descriptors", f"{found}, enough for {room} of the {CONNECTIONS} connections of an endpoint", advice)
    return fine("descriptors", found)


def check_trust(name: str | None = None) -> Finding:
    """Whether what this device is told to trust can be read, and covers `name`."""
    from accordion.trust.trust import VARIABLE, Trust

    try:
        trust = Trust.configured()
    except AccordionError as error:
        return wrong("trust", str(error), f"make the file anew with `accordion trust add`, or unset {VARIABLE} where it is set")
    if trust is None:
        return fine("trust", "there are no rules, so everything runs")
    try:
        if name is not None:
            trust.rule_for(name)
    except AccordionError as error:
        return wrong("trust", str(error), "add a rule with the maker's public key")
    count = len(trust.rules.rules)
    return fine("trust", f"{trust.path} has {count} rule{'s' if count != 1 else ''}")


def _problem(name: str, bounds: str) -> str | None:
    try:
        found = version(name)
    except PackageNotFoundError:
        return f"{name} is not installed"
    for bound in bounds.split(","):
        match = re.fullmatch(r"\s*(>=|<=|==|<|>)\s*([0-9][0-9.]*)\s*", bound)
        if match is None:
            continue
        have, want = _numbers(found), _numbers(match[2])
        kept = {">=": have >= want, "<=": have <= want, "==": have == want, "<": have < want, ">": have > want}[match[1]]
        if not kept:
            return f"{name} {found} is installed; {match[1]}{match[2]} is needed"
    return None


def _numbers(text: str) -> tuple[int, ...]:
    """Of a version's release part, without zeros at its end, so that 2.8 equals 2.8.0."""
    match = re.match(r"[0-9]+(?:\.[0-9]+)*", text)
    found = [int(part) for part in match[0].split(".")] if match else []
    while found and not found[-1]:
        found.pop()
    return tuple(found)
