#!/usr/bin/env python3
"""Checks the provisioner itself: services start, survive kill -9 with their data, log in, and leave nothing behind.

    tests/services/selftest.py            (`make test` runs it first)

It judges by kcat, psycopg and confluent-kafka and by its own look at /proc; it shares no code with scripts/.
"""

import atexit
import contextlib
import os
import select
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest
import urllib.request
from pathlib import Path

SERVICES = Path(__file__).resolve().parents[2] / "scripts" / "services"

try:
    import confluent_kafka
    import psycopg
except ImportError:  # started by the system's Python: go on in the one that has the clients
    python = subprocess.run([SERVICES, "install", "python"], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
    os.execv(python, [python, *sys.argv])

STATE = Path(tempfile.mkdtemp(prefix="smartlog-selftest-"))
ENV: dict = {}
LINES = [f"line {n} of the selftest" for n in range(1000)]


def services(*arguments: str) -> None:
    done = subprocess.run([SERVICES, *arguments, "--state", STATE], check=False, stdout=subprocess.DEVNULL)
    assert done.returncode == 0, f"scripts/services {' '.join(arguments)} ended with code {done.returncode}"


def read_env() -> None:
    ENV.clear()
    for line in (STATE / "services.env").read_text().splitlines():
        key, _, value = line.partition("=")
        ENV[key.removeprefix("SMARTLOG_TEST_")] = shlex.split(value)[0]


def kcat(*arguments: str, text: str = "", code: int = 0) -> list:
    argv = [ENV["KCAT"], "-X", "socket.timeout.ms=10000", *arguments]
    done = subprocess.run(argv, input=text, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=60, check=False)
    assert (done.returncode == 0) == (code == 0), f"{argv} ended with code {done.returncode}: {done.stderr}"
    return done.stdout.splitlines()


def read_topic(broker: str, topic: str) -> list:
    return kcat("-b", broker, "-C", "-t", topic, "-o", "beginning", "-e", "-q")


def listening(address: str) -> bool:
    host, port = address.rsplit(":", 1)
    with socket.socket() as probe:
        return probe.connect_ex((host, int(port))) == 0


def processes_in(folder: Path) -> list:
    """Command lines of processes that work in the folder or name it, this one's family excepted."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            cwd = os.readlink(f"/proc/{pid}/cwd")
            command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(folder) in cwd or str(folder) in command:
            found.append(f"{pid}: {command}")
    return found


class Provisioner(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        services("start", "kafka", "postgres", "toxiproxy", "kcat", "python", "--owner", str(os.getpid()))
        read_env()

    def test_1_kafka_keeps_its_data_over_kill_9(self):
        kcat("-b", ENV["KAFKA"], "-P", "-t", "kept", text="\n".join(LINES))
        self.assertEqual(read_topic(ENV["KAFKA"], "kept"), LINES)
        services("kill", "kafka")
        self.assertFalse(listening(ENV["KAFKA"]))
        before = ENV["KAFKA"]
        services("start", "kafka")
        read_env()
        self.assertEqual(ENV["KAFKA"], before)
        self.assertEqual(read_topic(ENV["KAFKA"], "kept"), LINES)

    def test_2_kafka_takes_the_right_password_by_each_mechanism(self):
        for mechanism in ("SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN"):
            with self.subTest(mechanism):
                self.assertEqual(self.log_in(mechanism, ENV["KAFKA_SASL_PASSWORD"], ENV["KAFKA_CA"]), None)

    def test_3_kafka_refuses_a_wrong_password_and_a_stranger(self):
        code = confluent_kafka.KafkaError
        for mechanism in ("SCRAM-SHA-512", "PLAIN"):
            with self.subTest(mechanism):
                self.assertEqual(self.log_in(mechanism, "wrong", ENV["KAFKA_CA"]), code._AUTHENTICATION)
        # Without our authority the certificate is a stranger's.
        self.assertEqual(self.log_in("PLAIN", ENV["KAFKA_SASL_PASSWORD"], None), code._SSL)

    def test_4_postgres_keeps_what_was_committed_over_kill_9(self):
        with psycopg.connect(ENV["POSTGRES"], autocommit=True) as connection:
            connection.execute("create table kept as select generate_series(1, 100000) as n")
        # A backend that computes does not notice the death of its postmaster: it holds the shared memory.
        with contextlib.closing(psycopg.connect(ENV["POSTGRES"])) as connection:
            connection.pgconn.send_query(b"select max(n) from (select generate_series(1, 1000000000000) n) s")
            services("kill", "postgres")
            services("start", "postgres")
        read_env()
        with psycopg.connect(ENV["POSTGRES"]) as connection:
            self.assertEqual(connection.execute("select count(*), sum(n) from kept").fetchone(), (100000, 5000050000))

    def test_5_postgres_pauses_and_goes_on(self):
        with contextlib.closing(psycopg.connect(ENV["POSTGRES"])) as connection:
            services("pause", "postgres")
            connection.pgconn.send_query(b"select 1")
            connection.pgconn.flush()
            answered = self.readable(connection, 0.5)
            services("resume", "postgres")
            self.assertFalse(answered, "a paused server answered")
            self.assertTrue(self.readable(connection, 10))

    def test_6_toxiproxy_cuts_and_mends(self):
        self.assertEqual(read_topic(ENV["KAFKA_PROXY"], "kept"), LINES)
        with psycopg.connect(ENV["POSTGRES_PROXY"]) as connection:
            self.assertEqual(connection.execute("select 1").fetchone(), (1,))
        self.proxy("/proxies/kafka", b'{"enabled": false}')
        self.assertFalse(listening(ENV["KAFKA_PROXY"]))
        self.proxy("/reset", b"")
        self.assertEqual(read_topic(ENV["KAFKA_PROXY"], "kept"), LINES)

    def test_7_stop_leaves_no_process_no_port_and_no_folder(self):
        services("kill", "postgres")  # also what a crash left
        services("pause", "kafka")  # and what cannot end by itself
        ports = [ENV["KAFKA"], ENV["KAFKA_SASL"], ENV["KAFKA_PROXY"], ENV["TOXIPROXY"].removeprefix("http://")]
        services("stop", "--purge")
        self.assertEqual(processes_in(STATE), [])
        self.assertFalse(any(map(listening, ports)))
        self.assertFalse(STATE.exists())

    @staticmethod
    def readable(connection, seconds: float) -> bool:
        return bool(select.select([connection.pgconn.socket], [], [], seconds)[0])

    @staticmethod
    def proxy(path: str, body: bytes) -> None:
        urllib.request.urlopen(urllib.request.Request(ENV["TOXIPROXY"] + path, body, method="POST"), timeout=5).close()

    @staticmethod
    def log_in(mechanism: str, password: str, authority):
        """None when a record was acknowledged, else the code of the error that says why not."""
        errors = []
        config = {
            "bootstrap.servers": ENV["KAFKA_SASL"],
            "security.protocol": "SASL_SSL",
            "sasl.mechanism": mechanism,
            "sasl.username": ENV["KAFKA_SASL_USER"],
            "sasl.password": password,
            "error_cb": lambda error: errors.append(error.code()),
            "log_level": 0,
        }
        if authority:
            config["ssl.ca.location"] = authority
        client = confluent_kafka.Producer(config)
        delivered = []
        client.produce("logins", mechanism, on_delivery=lambda error, _: delivered.append(error))
        deadline = time.monotonic() + 20
        telling = (confluent_kafka.KafkaError._AUTHENTICATION, confluent_kafka.KafkaError._SSL)
        while not delivered and not set(telling) & set(errors) and time.monotonic() < deadline:
            client.poll(0.05)
        client.purge()
        if delivered and delivered[0] is None:
            return None
        return next((code for code in errors if code in telling), f"no answer, errors {errors}")


def clean_up() -> None:
    if STATE.exists():  # a test failed half-way
        subprocess.run([SERVICES, "stop", "--purge", "--state", STATE], check=False)


if __name__ == "__main__":
    atexit.register(clean_up)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))
    unittest.main(verbosity=2)
