#!/usr/bin/env python3
"""What the API reaches, beside FastAPI and asyncpg over the same table, in one run, taking turns.

    make bench-api                 three rounds of 6 s
    make bench-api ROUNDS=1        to see that it works

PostgreSQL holds 100,000 anomalies; a page has 50. Both servers have four connections to it, and one process. `kept`: answers
kept until the store's revision changes, as by default; `read`: no memory for answers, so that each request reads its page.
"""

import asyncio
import json
import os
import re
import resource
import statistics
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

sys.dont_write_bytecode = True
REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY / "scripts"))

from provision import install  # noqa: E402

PATH = "/api/v1/anomalies?page=1&per_page=50"
ROUNDS = int(os.environ.get("ROUNDS") or 3)
SECONDS = 6
RATE = 1000
CONNECTIONS = 10_000
SEED = """
insert into anomalies (detected_at, anomaly_type, service, severity, description, metric_value, threshold, model_version,
       started_at, last_seen, status, revision, baseline, peak_value, score, first_raised_at)
select timestamptz '2026-01-15 10:00:00Z' + i * interval '37 seconds',
       (array['multivariate_outlier','error_rate_spike','log_volume_spike','log_volume_drop'])[1 + i % 4], 'service-' || (i % 20),
       (array['low','medium','high','critical'])[1 + i % 4], 'error rate 0.31 against a baseline of 0.02 over the last 5 minutes',
       0.31, 0.06, '12', timestamptz '2026-01-15 10:00:00Z' + i * interval '37 seconds', timestamptz '2026-01-15 10:05:00Z' + i * interval '37 seconds',
       'resolved', 3, 0.02, 0.4, 0.5 + (i % 50) / 100.0, timestamptz '2026-01-15 10:00:00Z' + i * interval '37 seconds'
from generate_series(1, 100000) as i;
insert into pipeline_state (pipeline, sequence, event_seq, epoch, clock_us, watermark_us, wall_us) values ('default', 1, 1, 1, 1768473000000000, 1768472995000000, 1768473000000000);
insert into anomaly_events (seq, anomaly_id, kind, revision, status, clock, episode) values (1, 1, 'raised', 1, 'open', now(), '{}');
"""


class Server:
    """A child process that serves; what it costs is read from /proc."""

    def __init__(self, name: str, command: list, port: int, **environment: str):
        self.name, self.url = name, f"http://127.0.0.1:{port}"
        began = time.monotonic()
        self.child = subprocess.Popen([str(part) for part in command], cwd=Path(__file__).parent, env={**os.environ, **environment})
        while not self.is_ready():
            if self.child.poll() is not None or time.monotonic() - began > 60:
                raise SystemExit(f"{name} did not start: {command}")
            time.sleep(0.005)
        self.start_s = time.monotonic() - began

    def is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(self.url + "/health/ready", timeout=1) as answer:
                return answer.status == 200
        except OSError:
            return False

    def cpu_s(self) -> float:
        fields = Path(f"/proc/{self.child.pid}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory_mib(self) -> float:
        status = Path(f"/proc/{self.child.pid}/status").read_text(encoding="ascii")
        return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024

    def end(self) -> None:
        self.child.terminate()
        self.child.wait(30)


def throughput(server: Server, wrk: Path) -> tuple[float, float]:
    """Requests per second at 32 connections, and microseconds of the server's CPU for each."""
    before = server.cpu_s()
    said = install.run([wrk, "-t1", "-c32", f"-d{SECONDS}s", server.url + PATH], f"wrk at {server.name}")
    if "Non-2xx" in said:
        raise SystemExit(f"{server.name} refused requests:\n{said}")
    requests = int(re.search(r"(\d+) requests in", said)[1])
    return float(re.search(r"Requests/sec:\s+([\d.]+)", said)[1]), (server.cpu_s() - before) / requests * 1e6


def latency(server: Server, vegeta: Path) -> dict:
    """At a constant rate, whether or not the server keeps up."""
    attack = [vegeta, "attack", f"-rate={RATE}", f"-duration={SECONDS}s", "-max-workers=200"]
    shot = subprocess.run(attack, input=f"GET {server.url}{PATH}".encode(), capture_output=True, check=True)
    report = subprocess.run([vegeta, "report", "-type=json"], input=shot.stdout, capture_output=True, check=True)
    return json.loads(report.stdout)


async def crowd(server: Server) -> float:
    """Memory under many connections, each of which has been answered once."""
    host, port = server.url.removeprefix("http://").split(":")
    request = b"GET /health/live HTTP/1.1\r\nhost: a\r\n\r\n"

    async def one():
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(request)
        await reader.readuntil(b"}")
        return writer

    writers = []
    for _ in range(CONNECTIONS // 250):
        writers += await asyncio.gather(*(one() for _ in range(250)))
    memory = server.memory_mib()
    for writer in writers:
        writer.close()
    return memory


def median(values: list) -> str:
    middle = statistics.median(values)
    return f"{middle:,.0f} ({min(values):,.0f} to {max(values):,.0f})"


def main() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    wrk = install.program("wrk", "wrk")
    vegeta = install.go("vegeta", "github.com/tsenart/vegeta/v12", "v12.12.0").with_name("vegeta")
    peer_python = install.python_venv("fastapi", Path(__file__).parent / "requirements.txt")
    program = Path(sys.argv[1]).resolve()

    admin, psql = os.environ["SMARTLOG_TEST_POSTGRES"], os.environ["SMARTLOG_TEST_PSQL"]
    name = f"smartlog_bench_{os.getpid()}"
    url = f"{admin.rsplit('/', 1)[0]}/{name}"
    run = lambda sql, to=url: install.run([psql, "-XAtq", "-v", "ON_ERROR_STOP=1", "-c", sql, to], "psql")  # noqa: E731
    run(f"create database {name}", admin)
    try:
        migrations = sorted((REPOSITORY / "schema/migrations/postgres").glob("V*.sql"), key=lambda f: int(f.name[1:].split("__")[0]))
        for file in migrations:
            install.run([psql, "-XAtq", "-v", "ON_ERROR_STOP=1", "-f", file, url], file.name)
        run(SEED)
        run("vacuum analyze")
        compare(program, url, wrk, vegeta, peer_python)
    finally:
        run(f"drop database {name} with (force)", admin)


def compare(program: Path, url: str, wrk: Path, vegeta: Path, peer_python: Path) -> None:
    api = lambda port, *more: [program, "api", "--store", url, "--listen", f"127.0.0.1:{port}", "--log-filter", "warn", *more]  # noqa: E731
    uvicorn = [peer_python, "-m", "uvicorn", "peer:app", "--port", "18999", "--log-level", "warning", "--no-access-log"]
    servers = {
        "kept": Server("smartlog, answers kept", api(18997), 18997),
        "read": Server("smartlog, each request reads", api(18998, "--api-cache-bytes", "0"), 18998),
        "peer": Server("FastAPI, asyncpg", uvicorn, 18999, PG_DSN=url),
    }
    try:
        results = {key: {"rate": [], "cpu": [], "p99": [], "done": []} for key in servers}
        for server in servers.values():
            install.run([wrk, "-t1", "-c32", "-d1s", server.url + PATH], "wrk, to warm up")
        for _ in range(ROUNDS):
            for key, server in servers.items():
                rate, cpu = throughput(server, wrk)
                at_rate = latency(server, vegeta)
                found = results[key]
                found["rate"].append(rate)
                found["cpu"].append(cpu)
                found["p99"].append(at_rate["latencies"]["99th"] / 1e6)
                found["done"].append(at_rate["throughput"])
        print("| | requests/s, 32 connections | × FastAPI | CPU per request, µs | p99 at 1,000/s, ms | answered of 1,000/s | start, s |")
        print("|---|---|---|---|---|---|---|")
        peer = statistics.median(results["peer"]["rate"])
        for key, server in servers.items():
            found = results[key]
            times = statistics.median(found["rate"]) / peer
            print(f"| {server.name} | {median(found['rate'])} | {times:.1f} | {median(found['cpu'])} | {statistics.median(found['p99']):.1f} "
                  f"({min(found['p99']):.1f} to {max(found['p99']):.1f}) | {statistics.median(found['done']):,.0f} | {server.start_s:.2f} |")
        print(f"\nMemory of smartlog: {servers['kept'].memory_mib():.0f} MiB after this; {asyncio.run(crowd(servers['kept'])):.0f} MiB with {CONNECTIONS:,} connections open.")
    finally:
        for server in servers.values():
            server.end()


if __name__ == "__main__":
    main()
