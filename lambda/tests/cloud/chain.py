#!/usr/bin/env python3
"""A PUT starts the function: MinIO calls it by webhook, and the table equals a recount; also when the function dies on the way.

    chain.py BOOTSTRAP    with SMARTLOG_TEST_MINIO_PROGRAM and SMARTLOG_TEST_DYNAMODB set

The MinIO is this test's own, for its webhook must be known when it starts.
"""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import boto3

sys.path.insert(0, str(Path(__file__).resolve().parent))

import files  # noqa: E402
from exactly_once import make_table  # noqa: E402
from function import Crashed, Failed, Function  # noqa: E402
from proxy import Proxy  # noqa: E402

REGION, DATE, BUCKET = "eu-west-1", "2026-01-15", "chain"


def free_port() -> int:
    """Below the ports that the kernel gives to outgoing connections: nobody takes it before the server does."""
    while True:
        port = random.randrange(10_000, 20_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


class Webhook:
    """POST of an event calls the function; an error tells MinIO to send it again."""

    def __init__(self, function: Function):
        self.calls = 0

        class Handler(http.server.BaseHTTPRequestHandler):
            def log_message(self, *_):
                pass

            def do_HEAD(self):
                self.answer(200)

            do_GET = do_HEAD

            def do_POST(handler):
                body = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
                self.calls += 1
                try:
                    function.invoke(json.loads(body or b"{}") or {"Event": "s3:TestEvent"})
                    handler.answer(200)
                except (Crashed, Failed):
                    handler.answer(500)

            def answer(self, status: int):
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/"


def start_minio(work: Path, webhook: str, port: int = 0):
    """A MinIO on the data in `work`; on a port of before, or a free one."""
    port, console = port or free_port(), free_port()
    settings = {"MINIO_ROOT_USER": "test", "MINIO_ROOT_PASSWORD": "testtest", "MINIO_REGION": REGION, "MINIO_BROWSER": "off"}
    settings |= {"MINIO_UPDATE": "off", "MINIO_CI_CD": "on", "MINIO_NOTIFY_WEBHOOK_ENABLE_FUNCTION": "on"}
    settings |= {"MINIO_NOTIFY_WEBHOOK_ENDPOINT_FUNCTION": webhook, "MINIO_NOTIFY_WEBHOOK_QUEUE_DIR_FUNCTION": str(work / "queue")}
    (work / "queue").mkdir(exist_ok=True)
    command = [os.environ["SMARTLOG_TEST_MINIO_PROGRAM"], "server", str(work / "data")]
    command += ["--address", f"127.0.0.1:{port}", "--console-address", f"127.0.0.1:{console}"]
    with open(work / "minio.log", "wb") as log:
        process = subprocess.Popen(command, env={"PATH": os.environ["PATH"], "HOME": str(work), **settings}, stdout=log, stderr=log)
    endpoint = f"http://127.0.0.1:{port}"
    wait_for_minio(process, endpoint, work / "minio.log")
    return process, endpoint


def wait_for_minio(process: subprocess.Popen, endpoint: str, log: Path) -> None:
    for _ in range(600):
        try:
            urllib.request.urlopen(f"{endpoint}/minio/health/ready", timeout=2).close()
            return
        except (urllib.error.URLError, OSError):
            assert process.poll() is None, log.read_text()
            time.sleep(0.1)
    raise AssertionError("MinIO does not answer")


def wait_until(condition, what: str) -> None:
    for _ in range(900):
        if condition():
            return
        time.sleep(0.1)
    raise AssertionError(f"90 s passed without {what}")


def main() -> None:
    work = Path(tempfile.mkdtemp(prefix="smartlog-chain-"))
    proxy = Proxy(os.environ["SMARTLOG_TEST_DYNAMODB"])
    environment = {
        "SMARTLOG_SUMMARIES_TABLE": f"chain-{os.getpid()}-sums",
        "SMARTLOG_CONTRIBUTIONS_TABLE": f"chain-{os.getpid()}-parts",
        "AWS_REGION": REGION,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "testtest",
        "AWS_ENDPOINT_URL_DYNAMODB": proxy.url,
    }
    function = Function(sys.argv[1].split(), environment, str(work / "function.log"))
    webhook = Webhook(function)
    minio, endpoint = start_minio(work, webhook.url)
    environment["AWS_ENDPOINT_URL_S3"] = endpoint
    keys = {"aws_access_key_id": "test", "aws_secret_access_key": "testtest", "region_name": REGION}
    s3 = boto3.client("s3", endpoint_url=endpoint, **keys)
    dynamodb = boto3.client("dynamodb", endpoint_url=os.environ["SMARTLOG_TEST_DYNAMODB"], **keys)
    try:
        make_table(dynamodb, f"chain-{os.getpid()}-sums", "date", "service")
        make_table(dynamodb, f"chain-{os.getpid()}-parts", "object", "part")
        s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
        rules = [{"Name": "prefix", "Value": "logs/"}, {"Name": "suffix", "Value": ".parquet"}]
        queue = {"QueueArn": f"arn:minio:sqs:{REGION}:FUNCTION:webhook", "Events": ["s3:ObjectCreated:*"], "Filter": {"Key": {"FilterRules": rules}}}
        s3.put_bucket_notification_configuration(Bucket=BUCKET, NotificationConfiguration={"QueueConfigurations": [queue]})
        rng = random.Random(5)
        services = [f"service-{n}" for n in range(110)]
        for at in range(6):
            if at in (2, 4):  # dies in the middle of a change of many services; MinIO sends the event again
                proxy.arm(rng.randrange(3, 6), at == 4, function.kill)
            body = files.log_file(rng, DATE, services[: 20 * at + 5], 800)
            s3.put_object(Bucket=BUCKET, Key=f"logs/date={DATE}/web {at}+é.parquet", Body=body)
            if at in (2, 4):
                wait_until(lambda: proxy.struck == at // 2, "the crash")
        expected = files.recount(s3, BUCKET)
        found = {}
        for _ in range(900):
            found = files.summaries(dynamodb, f"chain-{os.getpid()}-sums")
            if found == expected:
                break
            time.sleep(0.1)
        files.assert_equal(found, expected)
        assert proxy.struck == 2 and function.starts == 3, f"{proxy.struck} crashes, {function.starts} starts"
        print(f"6 PUTs, {webhook.calls} calls of the function, 2 crashes, {len(expected)} sums equal a recount")
    except BaseException:
        log = work / "function.log"
        print(log.read_text()[-3000:] if log.exists() else "never called")
        raise
    finally:
        minio.kill()
        minio.wait()
        function.close()
        proxy.close()
        shutil.rmtree(work)


if __name__ == "__main__":
    main()
