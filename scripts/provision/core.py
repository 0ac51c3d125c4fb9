"""The life of one service: folder, ports, start, readiness, crash, pause, stop.

    DIR/                      the state folder: one set of services
      smartlog-services       marks the folder as ours; only such a folder is ever deleted
      owner                   the process that the set is for, if it is for one
      services.env            what tests read
      NAME/                   the working directory of service NAME: its configuration, data and log
        service.json          ports, secrets, process: kept over restarts
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import random
import secrets
import shlex
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

from .errors import ProvisionError
from .install import say
from .process import Process, wait_until, working_in

MARKER = "smartlog-services"
OWNER = "owner"
READY_SECONDS = 240.0
STOP_SECONDS = 15.0
# Below the kernel's ephemeral range: no outgoing connection can take the port of a service while it is down.
PORT_RANGE = (20_000, 32_000)


class Service:
    """What a service is. A subclass per service; see services/ for examples.

    `ports` are names; each gets a free port, kept for the life of the state folder. A tool that runs nothing
    leaves `command` as it is.
    """

    name = ""
    ports: tuple[str, ...] = ()
    stop_signal = signal.SIGTERM
    # Words in the log of a start that failed for a reason that passes by itself.
    start_again_on: tuple[str, ...] = ()

    def install(self) -> None:
        """Makes the programs available; called before every start, so look first."""

    def prepare(self, home: Home) -> None:
        """Lays configuration and data, once per state folder."""

    def command(self, home: Home) -> list | None:
        """What to run, or None for a tool."""
        return None

    def user(self) -> str | None:
        """The account to run as, when it must be another one."""
        return None

    def ready(self, home: Home) -> bool:
        """Whether the service does its work, which an open port does not prove. May raise OSError for 'no'."""
        return True

    def started(self, home: Home) -> None:
        """Called after each start, once it is ready."""

    def env(self, home: Home) -> dict[str, str]:
        """Variables for tests, without the prefix SMARTLOG_TEST_."""
        return {}


class Home:
    """The folder of one service inside a state folder, and what is remembered in it."""

    def __init__(self, state: Path, service: Service):
        self.state = state
        self.service = service
        self.path = state / service.name
        self.log = self.path / "log"
        self._file = self.path / "service.json"
        self.memory: dict = json.loads(self._file.read_text(encoding="utf-8")) if self._file.exists() else {}

    def known(self) -> bool:
        return bool(self.memory)

    def port(self, name: str) -> int:
        return self.memory["ports"][name]

    def address(self, name: str) -> str:
        return f"127.0.0.1:{self.port(name)}"

    def secret(self, name: str) -> str:
        """A random word, made at the first call and the same from then on."""
        if name not in self.memory.setdefault("secrets", {}):
            self.memory["secrets"][name] = secrets.token_hex(12)
            self.save()
        return self.memory["secrets"][name]

    def process(self) -> Process | None:
        """The main process, if it lives."""
        pid = self.memory.get("pid")
        process = Process(pid, self.memory["start_ticks"]) if pid else None
        return process if process and process.alive() else None

    def processes(self) -> list[Process]:
        """The main process first, then whatever else of the program works in the folder."""
        main = self.process()
        exe = self.memory.get("exe")
        others = [p for p in working_in(self.path, exe) if p != main] if exe else []
        return ([main] if main else []) + others

    def save(self) -> None:
        write_atomically(self._file, json.dumps(self.memory, indent=1), 0o600)

    def log_tail(self, lines: int = 20) -> str:
        if not self.log.exists():
            return "(no log)"
        with open(self.log, "rb") as log:
            log.seek(max(0, self.log.stat().st_size - 16_384))
            return "\n".join(log.read().decode(errors="replace").splitlines()[-lines:])

    @contextlib.contextmanager
    def locked(self):
        """One command at a time per service; what is remembered is read anew under the lock."""
        self.path.mkdir(mode=0o755, exist_ok=True)
        with open(self.state / f".{self.service.name}.lock", "w", encoding="utf-8") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self.memory = Home(self.state, self.service).memory
            yield


# ---- the verbs ------------------------------------------------------------------------------------------------


def start(home: Home) -> None:
    """Starts a service that does not run, on the ports and data that it had before, if it had any."""
    with home.locked():
        if home.process():
            return
        if not home.known():
            home.memory = {"ports": _assign_ports(home)}
            home.save()
        if not home.memory.get("prepared"):
            home.service.prepare(home)
            home.memory["prepared"] = True
            home.save()
        if home.service.command(home):
            _end_leftovers(home)
            _launch(home)
        home.service.started(home)


def stop(home: Home) -> None:
    """Ends a service and everything that it started; fails if something survives."""
    with home.locked():
        _each(home, signal.SIGCONT)  # a stopped process cannot end
        main = home.process()
        if main:
            main.send(home.service.stop_signal)
            if not wait_until(lambda: not home.processes(), STOP_SECONDS):
                say(f"{home.service.name} did not end within {STOP_SECONDS:.0f} s, killing it")
        _end_leftovers(home)


def kill(home: Home, everything: bool) -> None:
    """SIGKILL to the main process, as a crash is: its children may live on for a while. Or to all of them."""
    with home.locked():
        main = _running(home)
        targets = home.processes() if everything else [main]
        for process in targets:
            process.send(signal.SIGKILL)
        if not wait_until(lambda: not any(p.alive() for p in targets), STOP_SECONDS):
            raise ProvisionError(f"{home.service.name} (process {main.pid}) survives SIGKILL")


def pause(home: Home) -> None:
    """SIGSTOP to all of it: connections stay open and nobody answers."""
    with home.locked():
        _running(home)

        def all_stopped() -> bool:
            moving = [p for p in home.processes() if not p.stopped()]
            for process in moving:  # the main one comes first, so that it makes no more children
                process.send(signal.SIGSTOP)
            return not moving

        if not wait_until(all_stopped, STOP_SECONDS):
            raise ProvisionError(f"{home.service.name} could not be paused")


def resume(home: Home) -> None:
    """SIGCONT to all of it."""
    with home.locked():
        _running(home)
        _each(home, signal.SIGCONT)


def status(home: Home) -> str:
    if not home.known():
        return "not started"
    if home.service.command(home) is None:
        return "installed"
    main = home.process()
    if not main:
        left = len(home.processes())
        return f"down ({left} processes left)" if left else "down"
    return f"paused, process {main.pid}" if main.stopped() else f"up, process {main.pid}"


# ---- inside ---------------------------------------------------------------------------------------------------


def _end_leftovers(home: Home) -> None:
    """SIGKILL to whatever still runs, as a supervisor does before it starts a service that crashed."""
    _each(home, signal.SIGKILL)
    if not wait_until(lambda: not home.processes(), STOP_SECONDS):
        left = ", ".join(str(p.pid) for p in home.processes())
        raise ProvisionError(f"{home.service.name}: processes {left} survive SIGKILL")


def _launch(home: Home) -> None:
    """Starts the process until it is ready, again when it failed for a reason that passes by itself."""
    deadline = time.monotonic() + READY_SECONDS
    while True:
        child = _spawn(home)
        logged = home.memory["log_offset"]
        if _wait_ready(home, child, deadline):
            return
        with open(home.log, "rb") as log:
            log.seek(logged)
            words = log.read().decode(errors="replace")
        passing = child.returncode is not None and any(w in words for w in home.service.start_again_on)
        if passing and time.monotonic() < deadline:
            time.sleep(0.1)
            continue
        ended = f"ended with code {child.returncode}" if child.returncode is not None else "does not answer"
        _each(home, signal.SIGKILL)
        raise ProvisionError(f"{home.service.name} {ended}; its log {home.log} ends:\n{home.log_tail()}")


def _spawn(home: Home) -> subprocess.Popen:
    account = home.service.user()
    identity = {"user": account, "group": account, "extra_groups": []} if account else {}
    kept = ("PATH", "HOME", "LANG", "JAVA_HOME", "TMPDIR")
    argv = [str(a) for a in home.service.command(home)]
    with open(home.log, "ab") as log:
        # Known before the start: whoever stops this set finds the process even if this program is killed here.
        home.memory.update(log_offset=log.tell(), exe=os.path.realpath(argv[0]))
        home.save()
        child = subprocess.Popen(
            argv,
            cwd=home.path,
            env={key: os.environ[key] for key in kept if key in os.environ},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C in the terminal is for the tests, not for the services
            **identity,
        )
    home.memory.update(pid=child.pid, start_ticks=Process.of(child.pid).start_ticks)
    home.save()
    return child


def _wait_ready(home: Home, child: subprocess.Popen, deadline: float) -> bool:
    while time.monotonic() < deadline:
        if child.poll() is not None:
            return False
        with contextlib.suppress(OSError):
            if home.service.ready(home):
                home.memory["exe"] = os.readlink(f"/proc/{child.pid}/exe")  # of a script it is the interpreter
                home.save()
                return True
        time.sleep(0.05)
    return False


def _running(home: Home) -> Process:
    main = home.process() if home.known() else None
    if not main:
        raise ProvisionError(f"{home.service.name} does not run in {home.state}: `scripts/services status` tells more")
    return main


def _each(home: Home, signum: signal.Signals) -> None:
    for process in home.processes():
        process.send(signum)


def _assign_ports(home: Home) -> dict[str, int]:
    """Free ports that no service of this state folder owns, for one that is down keeps its ports."""
    taken: set[int] = set()
    for file in home.state.glob("*/service.json"):
        taken.update(json.loads(file.read_text(encoding="utf-8"))["ports"].values())
    return dict(zip(home.service.ports, free_ports(len(home.service.ports), taken)))


def free_ports(count: int, taken: set[int]) -> list[int]:
    """`count` different ports of 127.0.0.1 that nobody listens on and that are not `taken`."""
    found: list[int] = []
    for _ in range(1000):
        if len(found) == count:
            return found
        port = random.randrange(*PORT_RANGE)
        if port in taken or port in found:
            continue
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            found.append(port)
    raise ProvisionError(f"no {count} free ports of 127.0.0.1 in {PORT_RANGE[0]}..{PORT_RANGE[1]}")


# ---- the state folder -----------------------------------------------------------------------------------------


def open_state(folder: Path) -> Path:
    """A new or earlier state folder; refuses one that holds anything else."""
    folder.mkdir(mode=0o711, parents=True, exist_ok=True)
    if not (folder / MARKER).exists():
        if any(folder.iterdir()):
            raise ProvisionError(f"{folder} holds other files: give --state an empty or a new folder")
        (folder / MARKER).touch()
    if folder.stat().st_uid != os.geteuid():
        raise ProvisionError(f"{folder} belongs to another user: give --state a folder of your own")
    folder.chmod(0o711)  # passable, for the account that PostgreSQL runs as must be able to pass
    return folder.resolve()


def own(state: Path, pid: int) -> None:
    """Notes which process the set is for: once that has ended, `abandoned` tells."""
    process = Process.of(pid)
    if not process:
        raise ProvisionError(f"--owner {pid}: there is no such process")
    write_atomically(state / OWNER, json.dumps([process.pid, process.start_ticks]), 0o600)


def abandoned(state: Path) -> bool:
    """Whether the process that the set was for has ended, so that nobody will stop it."""
    if not (state / MARKER).exists() or not (state / OWNER).exists():
        return False
    pid, start_ticks = json.loads((state / OWNER).read_text(encoding="utf-8"))
    return state.stat().st_uid == os.geteuid() and not Process(pid, start_ticks).alive()


def purge(state: Path) -> None:
    """Deletes a state folder, which must be one."""
    if not (state / MARKER).exists():
        raise ProvisionError(f"{state} is no state folder of ours (no file '{MARKER}' in it): not deleted")
    shutil.rmtree(state)


def write_env(state: Path, control: Path, homes: list[Home]) -> Path:
    """services.env: shell assignments, to be sourced with `set -a`."""
    values = {"CONTROL": str(control), "STATE": str(state), "SERVICES": " ".join(h.service.name for h in homes)}
    for home in homes:
        values.update(home.service.env(home))
        if home.process():
            prefix = home.service.name.upper()
            values[f"{prefix}_PID"] = str(home.process().pid)
            values[f"{prefix}_LOG"] = str(home.log)
    lines = [f"SMARTLOG_TEST_{key}={shlex.quote(value)}\n" for key, value in values.items()]
    path = state / "services.env"
    write_atomically(path, "".join(lines), 0o600)
    return path


def write_atomically(path: Path, text: str, mode: int) -> None:
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.touch(mode=mode)
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)
