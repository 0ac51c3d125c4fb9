"""A command with services around it: started before, stopped after, whatever happens in between."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from . import core
from .install import REPOSITORY, say

CONTROL = REPOSITORY / "scripts" / "services"
GRACE_SECONDS = 15.0


class Interrupted(BaseException):
    """A signal asked this program to end; unwinds through the clean-up."""


def main_with(body) -> None:
    """Runs `body()` and exits with what it returns; ends in good order on SIGINT, SIGTERM and SIGHUP."""

    obeyed = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def interrupted(signum, _frame):
        for each in obeyed:
            signal.signal(each, signal.SIG_IGN)  # the clean-up is bounded in time, and must not be cut short
        raise Interrupted(signum)

    for each in obeyed:
        signal.signal(each, interrupted)
    try:
        sys.exit(body())
    except core.ProvisionError as error:
        say(f"ERROR: {error}")
        sys.exit(1)
    except Interrupted as signum:
        say("interrupted; everything that was started has been stopped")
        sys.exit(128 + signum.args[0])


@contextlib.contextmanager
def running(names: list[str], logs_to: Path | None = None):
    """Services for the time of a `with`; gives the environment for what needs them.

    When the body fails and `logs_to` is given, the logs of the services are copied there.
    """
    _control("sweep")  # what an earlier run left that was killed without notice
    state = Path(tempfile.mkdtemp(prefix="smartlog-"))
    succeeded = False
    try:
        _control("start", *names, "--owner", os.getpid(), "--state", state)
        yield {**os.environ, **read_env(state / "services.env")}
        succeeded = True
    finally:
        if logs_to and not succeeded:
            _keep_logs(state, logs_to)
        if (state / core.MARKER).exists():
            _control("stop", "--purge", "--state", state)
        else:
            state.rmdir()  # interrupted before anything was laid


def read_env(path: Path) -> dict[str, str]:
    pairs = (line.partition("=") for line in path.read_text(encoding="utf-8").splitlines())
    return {key: shlex.split(value)[0] if value else "" for key, _, value in pairs}


def run_group(argv: list, environment: dict[str, str], on_line=None, quiet: bool = False) -> int:
    """Runs a command in a process group of its own, which ends with this program. Returns its code.

    With `on_line`, its output and its errors are read line by line in the order of writing; `quiet` drops its output.
    """
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT} if on_line else {}
    if quiet:
        pipes = {"stdout": subprocess.DEVNULL}
    child = subprocess.Popen(
        [str(a) for a in argv], env=environment, stdin=subprocess.DEVNULL, start_new_session=True, **pipes
    )
    try:
        if on_line:
            for line in child.stdout:
                on_line(line.decode(errors="replace").rstrip("\n"))
        return child.wait()
    finally:
        _end_group(child)


def _end_group(child: subprocess.Popen) -> None:
    """Nothing of the group is left behind, also not what the command itself left."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(GRACE_SECONDS)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def _control(*arguments) -> None:
    """scripts/services, deaf to the terminal's Ctrl-C: it is this program that decides."""
    code = run_group([CONTROL, *arguments], dict(os.environ), quiet=True)
    if code != 0:
        raise core.ProvisionError(f"scripts/services {arguments[0]} ended with code {code}, see above")


def _keep_logs(state: Path, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for log in state.glob("*/log"):
        shutil.copy(log, folder / f"{log.parent.name}.log")
    say(f"the logs of the services are in {folder}")
