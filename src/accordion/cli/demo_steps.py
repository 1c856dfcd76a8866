"""The steps of the demonstration: commands as a user gives them, each in a process of its own."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from types import TracebackType
from typing import IO, Any, Self

from accordion.errors import AccordionError

__all__ = ["Endpoint", "Steps"]

START_S = 60.0  # for an endpoint to answer, on a machine that is busy
STOP_S = 10.0
PROGRAM = (sys.executable, "-m", "accordion.cli")


class StepError(AccordionError):
    """A command of the demonstration failed; it has said why itself."""


class Steps:
    """Runs commands, shows them as a user would type them, and remembers them. What they print goes to `stream`.

    `environment` holds for all of them and is not shown.
    """

    def __init__(self, stream: IO[str], environment: Mapping[str, str] | None = None) -> None:
        self.stream, self.environment = stream, environment or {}
        self.done: list[dict[str, Any]] = []

    def say(self, *lines: str) -> None:
        """Tells the story."""
        print("", *lines, sep="\n", file=self.stream, flush=True)

    def show(self, command: str) -> None:
        """A command, as typed."""
        print(f"\n  $ {command}\n", file=self.stream, flush=True)

    def run(self, *arguments: str, environment: Mapping[str, str] | None = None, may_end_with: int = 0) -> int:
        """One command and the code that it ended with; StepError if that is neither 0 nor `may_end_with`."""
        shown = shlex.join([*(f"{name}={value}" for name, value in (environment or {}).items()), "accordion", *arguments])
        self.show(shown)
        began = time.monotonic()
        code = subprocess.run(
            [*PROGRAM, *arguments], stdout=self.stream, env={**os.environ, **self.environment, **(environment or {})}, check=False
        ).returncode
        self.done.append({"command": shown, "exit_code": code, "seconds": time.monotonic() - began})
        if code not in (0, may_end_with):
            raise StepError(f"the demonstration ends here: `{shown}` ended with {code}")
        return code


class Endpoint:
    """`accordion serve` on a free port, as long as the context lasts. `url` is where it answers."""

    def __init__(self, steps: Steps, package: str) -> None:
        self.steps, self.package, self.url = steps, package, ""
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        arguments = ["serve", self.package, "--port", "0"]
        self.steps.show(shlex.join(["accordion", *arguments]) + " &")
        # A file, not a pipe: nobody has to read on for the endpoint to go on.
        with tempfile.TemporaryFile() as said:
            # A session of its own: Ctrl-C reaches the demonstration, which then stops the endpoint.
            self._process = subprocess.Popen(
                [*PROGRAM, *arguments, "--json"], stdout=said, env={**os.environ, **self.steps.environment}, start_new_session=True
            )
            deadline = time.monotonic() + START_S
            while time.monotonic() < deadline and self._process.poll() is None:
                said.seek(0)
                try:
                    self.url = str(json.loads(said.read())["url"])
                except ValueError:
                    time.sleep(0.05)
                    continue
                return self
        self._stop()
        raise StepError(f"the demonstration ends here: the endpoint did not answer within {START_S:.0f} s")

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop()

    def _stop(self) -> None:
        process = self._process
        if process is None or process.poll() is not None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
