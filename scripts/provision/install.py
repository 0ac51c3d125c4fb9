"""Installs what a service needs, once, into a cache outside the checkout.

Each installer is idempotent: it looks first, builds into a folder beside the target and renames it, so that a
killed install leaves nothing that looks finished. One lock serialises parallel runs.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

from .errors import ProvisionError

REPOSITORY = Path(__file__).resolve().parents[2]
MAVEN_COPY = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"


def cache() -> Path:
    """Where installed things live: $SMARTLOG_CACHE, else ~/.cache/smartlog."""
    chosen = os.environ.get("SMARTLOG_CACHE")
    root = Path(chosen) if chosen else Path.home() / ".cache" / "smartlog"
    (root / "tools").mkdir(parents=True, exist_ok=True)
    return root.resolve()


_holding = False


@contextlib.contextmanager
def locked():
    """One installer at a time per cache; says so when it has to wait. An install inside an install passes."""
    global _holding
    if _holding:
        yield
        return
    with open(cache() / ".lock", "w", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("waiting for another install into the same cache")
            fcntl.flock(lock, fcntl.LOCK_EX)
        _holding = True
        try:
            yield
        finally:
            _holding = False


def say(message: str) -> None:
    """One line for the person who waits; standard output stays for results."""
    print(f"services: {message}", file=sys.stderr, flush=True)


def run(argv: list, what: str, **options) -> str:
    """Runs a command to its end and returns what it printed; its last lines go into the error if it fails."""
    done = subprocess.run(
        [str(a) for a in argv],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
        **options,
    )
    if done.returncode != 0:
        tail = "\n".join(done.stdout.splitlines()[-25:])
        raise ProvisionError(f"{what} failed with code {done.returncode}\n  ran: {' '.join(map(str, argv))}\n{tail}")
    return done.stdout


def built(name: str, build) -> Path:
    """The folder tools/`name`, made by `build(folder)` when it is not there yet."""
    target = cache() / "tools" / name
    if target.is_dir():
        return target
    with locked():
        if target.is_dir():  # another process made it while this one waited
            return target
        partial = target.with_name(f".{name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        say(f"installing {name}")
        began = time.monotonic()
        build(partial)
        partial.rename(target)
        say(f"installed {name} in {time.monotonic() - began:.0f} s")
    return target


def program(name: str, package: str) -> Path:
    """Path of an executable, by Debian's `package` when it is not in the PATH."""
    found = shutil.which(name)
    if not found:
        apt(package)
        found = shutil.which(name)
    if not found:
        raise ProvisionError(f"'{name}' is not in the PATH although the package '{package}' is installed")
    return Path(found)  # not resolved: some programs are one file that looks at the name it was called by


def needed(name: str, hint: str) -> Path:
    """Path of an executable that this program does not install itself."""
    found = shutil.which(name)
    if not found:
        raise ProvisionError(f"'{name}' is not in the PATH: {hint}")
    return Path(found)


def apt(package: str) -> None:
    """Installs a Debian package without its recommendations. The release pins the version."""
    if not shutil.which("apt-get"):
        raise ProvisionError(f"this machine has no apt-get: install what Debian calls '{package}' and run again")
    as_root = [] if os.geteuid() == 0 else ["sudo", "-n"]
    if as_root and not shutil.which("sudo"):
        raise ProvisionError(f"not root and no sudo: run `apt-get install {package}` as root, then run again")
    base = as_root + ["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-o", "DPkg::Lock::Timeout=600"]
    install = base + ["install", "-y", "--no-install-recommends", package]
    with locked():
        say(f"installing the Debian package {package}")
        try:
            run(install, f"apt-get install {package}")
        except ProvisionError:
            run(base + ["update"], "apt-get update")  # old lists name versions that are gone
            run(install, f"apt-get install {package}")


def maven(name: str, artifacts: dict[str, str]) -> Path:
    """A folder of jars: `artifacts` ("group:artifact" to version) and all that they need at run time."""
    mvn = needed("mvn", "install Maven 3 and a Java 17 runtime")
    dependencies = "".join(
        "<dependency><groupId>{}</groupId><artifactId>{}</artifactId><version>{}</version></dependency>".format(
            *coordinate.split(":"), version
        )
        for coordinate, version in artifacts.items()
    )
    pom = (
        '<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>'
        f"<groupId>smartlog.tests</groupId><artifactId>libs</artifactId><version>1</version>"
        f"<dependencies>{dependencies}</dependencies></project>"
    )

    def build(folder: Path) -> None:
        (folder / "pom.xml").write_text(pom, encoding="utf-8")
        options = ["-q", "-B", "-DincludeScope=runtime", f"-DoutputDirectory={folder / 'libs'}"]
        run([mvn, *options, "-f", folder / "pom.xml", MAVEN_COPY], f"Maven's download of {name}")

    return built(f"{name}-{digest(pom)}", build)


def go(name: str, package: str, version: str) -> Path:
    """A Go program, built from the module proxy; returns the executable."""
    compiler = needed("go", "install Go 1.21 or newer")

    def build(folder: Path) -> None:
        environment = {**os.environ, "GOBIN": str(folder), "GOFLAGS": "-trimpath"}
        run([compiler, "install", f"{package}@{version}"], f"go install of {name}", env=environment)

    folder = built(f"{name}-{version}", build)
    return folder / package.rpartition("/")[2]


def cargo(name: str, version: str, *options: str) -> Path:
    """A cargo subcommand, built for quick building rather than for speed; returns the executable."""
    compiler = needed("cargo", "install Rust by rustup")
    quick = {"OPT_LEVEL": "1", "LTO": "off", "CODEGEN_UNITS": "16", "DEBUG": "0"}

    def build(folder: Path) -> None:
        environment = {**os.environ, **{f"CARGO_PROFILE_RELEASE_{key}": value for key, value in quick.items()}}
        environment["CARGO_TARGET_DIR"] = str(folder / "target")
        environment.pop("RUSTFLAGS", None)
        base = [compiler, "install", name, "--version", version, "--locked", "--root", folder]
        run([*base, *options], f"cargo install of {name}", env=environment)
        shutil.rmtree(folder / "target", ignore_errors=True)

    return built(f"{name}-{version}", build) / "bin" / name


def npm(name: str, packages: dict[str, str]) -> Path:
    """A node_modules folder with exactly these packages, whose install scripts are not run."""
    program("node", "nodejs")
    client = program("npm", "npm")
    wanted = [f"{package}@{version}" for package, version in packages.items()]

    def build(folder: Path) -> None:
        (folder / "package.json").write_text('{"private": true}', encoding="utf-8")
        options = ["--ignore-scripts", "--no-audit", "--no-fund", "--no-update-notifier"]
        run([client, "install", "--prefix", folder, *options, *wanted], f"npm install of {name}", cwd=folder)

    return built(f"{name}-{digest(' '.join(wanted))}", build) / "node_modules"


def python_venv(name: str, requirements: Path) -> Path:
    """A virtual environment with exactly the pinned packages of a file; returns its interpreter."""
    text = requirements.read_text(encoding="utf-8")
    pins = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    loose = [line for line in pins if not re.search(r"==[\w.]+$", line.strip())]
    if loose:
        raise ProvisionError(f"{requirements} must pin every package with ==, found: {', '.join(loose)}")

    # Scripts in a virtual environment carry its absolute path, so it is made in place; the stamp says it is whole.
    folder = cache() / "tools" / f"{name}-{digest(text + sys.version)}"
    python, stamp = folder / "bin" / "python", folder / "complete"
    if not stamp.exists():
        with locked():
            if not stamp.exists():
                say(f"installing {name}: {', '.join(pins)}")
                shutil.rmtree(folder, ignore_errors=True)
                _make_venv(folder)
                pip = [python, "-m", "pip", "install", "-q", "--disable-pip-version-check"]
                run([*pip, "-r", requirements], f"pip install of {requirements.name}")
                stamp.touch()
    return python


def _make_venv(folder: Path) -> None:
    try:
        import ensurepip  # noqa: F401  (Debian splits it off into python3-venv)
    except ImportError:
        raise ProvisionError("Python cannot make virtual environments: run `apt-get install python3-venv`") from None
    run([sys.executable, "-m", "venv", folder], "python -m venv")


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:10]
