"""What /proc says about processes: who lives, who is only a zombie, who is left behind.

A killed service stays a zombie until PID 1 reaps it, which may take seconds in a container. A zombie holds no
port and no lock of the kernel, and still answers `kill -0`: so it counts as ended here, once its last thread is gone.
"""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

POLL_SECONDS = 0.02


@dataclass(frozen=True)
class Process:
    """A process by id and start time, so that a reused id is never mistaken for it."""

    pid: int
    start_ticks: int

    @staticmethod
    def of(pid: int) -> Process | None:
        facts = _stat(pid)
        return Process(pid, facts[1]) if facts else None

    def alive(self) -> bool:
        facts = _stat(self.pid)
        if facts is None or facts[1] != self.start_ticks:
            return False
        return facts[0] not in "ZX" or _threads(self.pid) > 1

    def stopped(self) -> bool:
        facts = _stat(self.pid)
        return facts is not None and facts[1] == self.start_ticks and facts[0] in "Tt"

    def send(self, signum: signal.Signals) -> None:
        if not self.alive():
            return
        try:
            os.kill(self.pid, signum)
        except ProcessLookupError:
            pass  # ended between the look and the signal


def working_in(folder: Path, exe: str) -> list[Process]:
    """Every living process of the program `exe` whose working directory is `folder` or below.

    Each service runs in its own folder and its children stay there, so this finds the ones that outlived
    their parent (a backend of a killed PostgreSQL, for one). The program is compared too: a person's shell that
    stands in the folder is no part of the service.
    """
    root = os.path.realpath(folder)
    found = []
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            cwd = os.readlink(f"/proc/{entry}/cwd")
            program = os.readlink(f"/proc/{entry}/exe")
        except OSError:
            continue  # gone, a kernel thread, or another user's
        inside = cwd == root or cwd.startswith(root + "/")
        process = Process.of(int(entry)) if inside and program == exe else None
        if process and process.alive():
            found.append(process)
    return found


def wait_until(condition, seconds: float) -> bool:
    """Polls `condition` until it holds; False when it did not within `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True


def _threads(pid: int) -> int:
    """Of a killed program the first thread is a zombie while others still hold its ports; then this is above 1."""
    try:
        return len(os.listdir(f"/proc/{pid}/task"))
    except OSError:
        return 0


def _stat(pid: int) -> tuple[str, int] | None:
    """(state, start time in ticks) of a process, None when there is none."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()  # the name before it may hold spaces and brackets
    return fields[0], int(fields[19])
