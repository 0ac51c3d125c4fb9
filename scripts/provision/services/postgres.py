"""PostgreSQL, from Debian (15 on Debian 12), or any version from 15 on that is already there.

`fsync=off` because no test cuts the power; `synchronous_commit=on` because tests kill the server: with it off, a
commit that was reported is gone after a crash, and every test of exactly-once would blame the product for it.

TLS is off, as encryption would be what benchmarks measure, and ready: certificates for `localhost`, by an authority of its
own (`SMARTLOG_TEST_POSTGRES_CA`), lie there for tests that say `alter system set ssl = on`.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
from pathlib import Path

from .. import core, install

OLDEST = 15
SETTINGS = """
listen_addresses = '127.0.0.1'
port = {port}
unix_socket_directories = '{folder}'
fsync = off
synchronous_commit = on
full_page_writes = off
shared_buffers = 64MB
max_connections = 200
max_wal_size = 1GB
jit = off
log_line_prefix = '%m [%p] '
"""
NEW_KEY = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]


class Postgres(core.Service):
    name = "postgres"
    ports = ("sql",)
    stop_signal = signal.SIGQUIT  # "immediate": open connections do not delay it
    # After kill -9 the postmaster is a zombie that its lock file still names, and its backends still end.
    start_again_on = ("postmaster.pid", "pre-existing shared memory block", "could not bind IPv4 address")

    def install(self) -> None:
        binaries()

    def user(self) -> str | None:
        return "postgres" if os.geteuid() == 0 else None  # the server refuses to run as root

    def prepare(self, home: core.Home) -> None:
        data = home.path / "data"
        shutil.rmtree(data, ignore_errors=True)  # of an initdb that was killed
        account = self.user()
        if account:
            shutil.chown(home.path, account, account)
        identity = {"user": account, "group": account, "extra_groups": []} if account else {}
        options = ["-U", "postgres", "-A", "trust", "--no-sync", "--locale=C.UTF-8", "-E", "UTF8"]
        what = "initdb (every folder above its data must be passable for the account 'postgres')"
        install.run([binaries() / "initdb", "-D", data, *options], what, cwd=home.path, **identity)
        certify(data, identity)
        with open(data / "postgresql.conf", "a", encoding="utf-8") as conf:
            conf.write(SETTINGS.format(port=home.port("sql"), folder=home.path))

    def command(self, home: core.Home) -> list:
        return [binaries() / "postgres", "-D", home.path / "data"]

    def ready(self, home: core.Home) -> bool:
        return self._query(home, "select 1") == "1"

    def env(self, home: core.Home) -> dict[str, str]:
        return {"POSTGRES": url(home.port("sql")), "PSQL": str(binaries() / "psql"), "POSTGRES_CA": str(home.path / "data" / "ca.pem")}

    def _query(self, home: core.Home, sql: str) -> str:
        try:
            return install.run([binaries() / "psql", "-XAtq", "-c", sql, url(home.port("sql"))], "psql").strip()
        except core.ProvisionError as error:
            raise ConnectionError(str(error)) from error


def url(port: int) -> str:
    return f"postgres://postgres@127.0.0.1:{port}/postgres"


def certify(data: Path, identity: dict) -> None:
    """server.crt and server.key where the server looks for them, and ca.pem, which vouches for them."""
    if not shutil.which("openssl"):
        install.apt("openssl")
    (data / "names").write_text("subjectAltName=DNS:localhost", encoding="utf-8")
    signed = ["-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", "names"]
    for words in (
        ["req", "-x509", *NEW_KEY, "-keyout", "ca.key", "-out", "ca.pem", "-days", "3650", "-subj", "/CN=tests of smartlog"],
        ["req", *NEW_KEY, "-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=localhost"],
        ["x509", "-req", "-in", "server.csr", *signed, "-out", "server.crt", "-days", "3650"],
    ):
        install.run(["openssl", *words], f"openssl {words[0]}", cwd=data, **identity)


def binaries() -> Path:
    """The folder with initdb, postgres and psql of the newest version."""
    found = _newest()
    if not found:
        install.apt("postgresql")
        found = _newest()
    if not found:
        raise core.ProvisionError(f"no PostgreSQL {OLDEST} or newer in the PATH or in /usr/lib/postgresql")
    return found


def _newest() -> Path | None:
    in_path = shutil.which("initdb")
    folders = [Path(in_path).resolve().parent] if in_path else []
    folders += Path("/usr/lib/postgresql").glob("*/bin")
    usable = [(major(folder), folder) for folder in folders if (folder / "postgres").exists()]
    return max((pair for pair in usable if pair[0] >= OLDEST), default=(0, None))[1]


def major(folder: Path) -> int:
    match = re.search(r"\) (\d+)", install.run([folder / "postgres", "--version"], "postgres --version"))
    return int(match.group(1)) if match else 0
