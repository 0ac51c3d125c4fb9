#!/usr/bin/env python3
"""The cloud on this machine: MinIO, where a PUT starts the packaged function, which keeps tables in DynamoDB Local.

    world.py BOOTSTRAP    with SMARTLOG_TEST_MINIO_PROGRAM and SMARTLOG_TEST_DYNAMODB set

    smartlog ──▶ proxy (counts requests, kills on demand) ──▶ MinIO ──webhook──▶ function ──▶ proxy ──▶ DynamoDB Local

Speaks in lines of JSON: one when it is ready, then one answer for each order on standard input. It ends with its input.
"""

from __future__ import annotations

import http.client
import http.server
import io
import json
import os
import re
import shutil
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path
from urllib.parse import parse_qs, quote_plus, urlparse

import boto3
import pyarrow as pa
import pyarrow.parquet as pq

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "lambda" / "tests" / "cloud"))

import chain  # noqa: E402
import files  # noqa: E402
from exactly_once import make_table  # noqa: E402
from function import Crashed, Failed, Function  # noqa: E402
from proxy import Proxy  # noqa: E402

BUCKET, PREFIX = "lake", "lake/"
HOP_BY_HOP = ("transfer-encoding", "content-length", "connection")
PATIENCE = 120
TIMES, NUMBERS = ("detected_at", "started_at", "last_seen", "ended_at"), ("metric_value", "threshold", "baseline", "peak_value", "score")
EPISODES = [  # docs/EXPORT.md, Anomalies
    pa.field("id", pa.int64(), nullable=False),
    *(pa.field(name, pa.timestamp("us", tz="UTC"), nullable=name == "ended_at") for name in TIMES),
    pa.field("anomaly_type", pa.string(), nullable=False),
    *(pa.field(name, pa.string()) for name in ("service", "severity", "description", "model_version")),
    *(pa.field(name, pa.float64()) for name in NUMBERS),
    pa.field("status", pa.string(), nullable=False),
    pa.field("revision", pa.int32(), nullable=False),
    pa.field("explanation", pa.string(), nullable=False),
    pa.field("feedback", pa.string()),
]


class Server(http.server.ThreadingHTTPServer):
    """Knows whether anybody is connected."""

    daemon_threads = True

    def __init__(self, *arguments):
        self._connected, self._left = 0, threading.Condition()
        super().__init__(*arguments)

    def process_request(self, request, client_address):
        with self._left:
            self._connected += 1
        super().process_request(request, client_address)

    def process_request_thread(self, request, client_address):
        try:
            super().process_request_thread(request, client_address)
        finally:
            with self._left:
                self._connected -= 1
                self._left.notify_all()

    def handle_error(self, *_):
        pass  # a killed program leaves its connections

    def wait_until_alone(self) -> None:
        with self._left:
            assert self._left.wait_for(lambda: self._connected == 0, PATIENCE), "somebody is still connected"


class S3Proxy:
    """Passes everything on and counts it as AWS bills it; kills a process at a request that it was told of."""

    def __init__(self, upstream: str):
        self.upstream = urlparse(upstream)
        self.counts = {"puts": 0, "gets": 0, "deletes": 0}
        self.struck = 0
        self._armed: tuple | None = None
        self._lock = threading.Lock()
        self._server = Server(("127.0.0.1", 0), self._handler())
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def arm(self, pattern: str, nth: int, after: bool, pid: int) -> None:
        with self._lock:
            self._armed = (re.compile(pattern), nth, after, pid)

    def disarm(self) -> None:
        with self._lock:
            self._armed = None

    def wait_until_alone(self) -> None:
        self._server.wait_until_alone()

    def _strikes(self, request: str) -> tuple | None:
        with self._lock:
            if self._armed is None or not self._armed[0].search(request):
                return None
            pattern, nth, after, pid = self._armed
            self._armed = (pattern, nth - 1, after, pid) if nth > 1 else None
            if nth > 1:
                return None
            self.struck += 1
            return after, pid

    def _count(self, method: str, query: dict) -> None:
        lists = method == "GET" and ("list-type" in query or "uploads" in query)
        kind = "puts" if method in ("PUT", "POST") or lists else "deletes" if method == "DELETE" else "gets"
        with self._lock:
            self.counts[kind] += 1

    def _handler(proxy):
        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def any(self):
                body = self._body()
                url = urlparse(self.path)
                proxy._count(self.command, parse_qs(url.query, keep_blank_values=True))
                strike = proxy._strikes(f"{self.command} {self.path}")
                answer = None if strike and not strike[0] else self._pass_on(body)
                if strike:
                    os.kill(strike[1], signal.SIGKILL)
                    self.close_connection = True
                elif answer is None:
                    self.close_connection = True  # as when the server is away
                else:
                    self._answer(*answer)

            do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = any

            def _body(self) -> bytes:
                if self.headers.get("Transfer-Encoding") != "chunked":
                    return self.rfile.read(int(self.headers.get("Content-Length") or 0))
                body = b""
                while size := int(self.rfile.readline().split(b";")[0], 16):
                    body += self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()
                return body

            def _pass_on(self, body: bytes):
                upstream = http.client.HTTPConnection(proxy.upstream.hostname, proxy.upstream.port, timeout=60)
                try:
                    upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
                    for name, value in self.headers.items():
                        if name.lower() not in HOP_BY_HOP:
                            upstream.putheader(name, value)
                    upstream.putheader("Content-Length", str(len(body)))
                    upstream.endheaders(body)
                    answer = upstream.getresponse()
                    return answer.status, answer.getheaders(), answer.read()
                except OSError:
                    return None
                finally:
                    upstream.close()

            def _answer(self, status: int, headers: list, content: bytes):
                self.send_response(status)
                length = str(len(content))
                for name, value in headers:
                    if self.command == "HEAD" and name.lower() == "content-length":
                        length = value
                    elif name.lower() not in HOP_BY_HOP:
                        self.send_header(name, value)
                self.send_header("Content-Length", length)
                self.end_headers()
                self.wfile.write(content)

        return Handler


class World:
    def __init__(self, bootstrap: list):
        self.work = Path(tempfile.mkdtemp(prefix="smartlog-world-"))
        self.tables = {name: f"world-{os.getpid()}-{name}" for name in ("sums", "parts")}
        self.proxy = Proxy(os.environ["SMARTLOG_TEST_DYNAMODB"])
        environment = {
            "SMARTLOG_SUMMARIES_TABLE": self.tables["sums"],
            "SMARTLOG_CONTRIBUTIONS_TABLE": self.tables["parts"],
            "SMARTLOG_EXPORT_PREFIX": PREFIX,
            "AWS_REGION": chain.REGION,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "testtest",
            "AWS_ENDPOINT_URL_DYNAMODB": self.proxy.url,
        }
        self.function = Function(bootstrap, environment, str(self.work / "function.log"))
        self.webhook = chain.Webhook(self.function)
        self.minio, self.endpoint = chain.start_minio(self.work, self.webhook.url)
        environment["AWS_ENDPOINT_URL_S3"] = self.endpoint
        self.s3_proxy = S3Proxy(self.endpoint)
        keys = {"aws_access_key_id": "test", "aws_secret_access_key": "testtest", "region_name": chain.REGION}
        self.s3 = boto3.client("s3", endpoint_url=self.endpoint, **keys)
        self.dynamodb = boto3.client("dynamodb", endpoint_url=os.environ["SMARTLOG_TEST_DYNAMODB"], **keys)
        make_table(self.dynamodb, self.tables["sums"], "date", "service")
        make_table(self.dynamodb, self.tables["parts"], "object", "part")
        self.s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": chain.REGION})
        queues = [self._notification(suffix) for suffix in (".parquet", ".json")]
        self.s3.put_bucket_notification_configuration(Bucket=BUCKET, NotificationConfiguration={"QueueConfigurations": queues})

    @staticmethod
    def _notification(suffix: str) -> dict:
        rules = [{"Name": "prefix", "Value": PREFIX}, {"Name": "suffix", "Value": suffix}]
        arn = f"arn:minio:sqs:{chain.REGION}:FUNCTION:webhook"
        return {"QueueArn": arn, "Events": ["s3:ObjectCreated:*"], "Filter": {"Key": {"FilterRules": rules}}}

    def close(self) -> None:
        self.minio.kill()
        self.minio.wait()
        self.function.close()
        self.proxy.close()
        shutil.rmtree(self.work, ignore_errors=True)

    def objects(self) -> list:
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=PREFIX)
        return [item for page in pages for item in page.get("Contents", [])]

    # ------------------------------------------------------------------------------------------------- orders

    def where(self) -> dict:
        return {"s3": self.s3_proxy.url, "dynamodb": self.proxy.url, "target": f"s3://{BUCKET}/{PREFIX}".rstrip("/"), **self.tables}

    def kill_at(self, match: str, nth: int, after: bool, pid: int) -> None:
        self.s3_proxy.arm(match, nth, after, pid)

    def spare(self) -> None:
        """Nobody is killed any more: the process has ended, and its number may be another's. All that it asked for is counted."""
        self.s3_proxy.disarm()
        self.s3_proxy.wait_until_alone()

    def kill_function_at(self, nth: int, after: bool) -> None:
        self.proxy.arm(nth, after, self.function.kill)

    def figures(self) -> dict:
        """What happened so far."""
        crashes = {"program": self.s3_proxy.struck, "function": self.proxy.struck}
        sizes = [item["Size"] for item in self.objects()]
        return {**self.s3_proxy.counts, "crashes": crashes, "calls": self.webhook.calls, "objects": len(sizes), "bytes": sum(sizes)}

    def crash_minio(self) -> None:
        """SIGKILL, and a start on the same data. Events that died with it are sent again, as S3 would in the end."""
        address = urlparse(self.endpoint)
        self.minio.kill()
        self.minio.wait()
        self.minio, self.endpoint = chain.start_minio(self.work, self.webhook.url, address.port)
        for item in self.objects():
            if item["Key"].endswith((".parquet", ".json")):
                self.call(item["Key"])

    def call(self, key: str) -> None:
        s3 = {"bucket": {"name": BUCKET}, "object": {"key": quote_plus(key)}}
        for _ in range(20):
            try:
                self.function.invoke({"Records": [{"eventSource": "aws:s3", "eventName": "ObjectCreated:Put", "s3": s3}]})
                return
            except (Crashed, Failed) as error:
                reason = error
        raise AssertionError(f"{key}: {reason}")

    def copy(self, folder: str) -> int:
        """The bucket as a folder."""
        for item in self.objects():
            path = Path(folder) / item["Key"].removeprefix(PREFIX)
            path.parent.mkdir(parents=True, exist_ok=True)
            self.s3.download_file(BUCKET, item["Key"], str(path))
        return len(self.objects())

    def episodes(self) -> list:
        """Every row of the files of episodes, by day and id: the day, then all columns; times in microseconds, numbers as text."""
        rows = []
        for item in self.objects():
            area, day, name = item["Key"].removeprefix(PREFIX).split("/")
            if area != "anomalies":
                continue
            assert name == "episodes.parquet", item["Key"]
            table = pq.read_table(io.BytesIO(self.s3.get_object(Bucket=BUCKET, Key=item["Key"])["Body"].read()))
            assert list(table.schema.remove_metadata()) == EPISODES, f"{item['Key']}: {table.schema}"
            started = table["started_at"].to_pylist()
            assert started == sorted(started), f"{item['Key']} is not sorted by started_at"
            columns = []
            for field in EPISODES:
                column = table[field.name]
                values = (column.cast(pa.int64()) if field.name in TIMES else column).to_pylist()
                as_text = field.name in NUMBERS
                columns.append([repr(value) if as_text and value is not None else value for value in values])
            rows += ([day.removeprefix("date="), *row] for row in zip(*columns))
        return sorted(rows, key=lambda row: row[:2])

    def uploads(self) -> int:
        return len(self.s3.list_multipart_uploads(Bucket=BUCKET, Prefix=PREFIX).get("Uploads", []))

    def voided(self) -> set:
        names = set()
        for item in self.objects():
            if "_manifest-" in item["Key"]:
                manifest = json.loads(self.s3.get_object(Bucket=BUCKET, Key=item["Key"])["Body"].read())
                names |= {item["Key"].rsplit("/", 1)[0] + "/" + name for name in manifest["voided"]}
        return names

    def settle(self) -> list:
        """Waits until the table equals a recount of the bucket; the table."""
        deadline, seen = time.monotonic() + PATIENCE, None
        while True:
            before = {item["Key"]: item["ETag"] for item in self.objects()}
            expected = files.recount(self.s3, BUCKET, PREFIX, self.voided())
            found = files.summaries(self.dynamodb, self.tables["sums"])
            after = {item["Key"]: item["ETag"] for item in self.objects()}
            # Twice the same number of calls: nothing is under way any more.
            if found == expected and before == after and seen == self.webhook.calls:
                break
            if time.monotonic() > deadline:
                files.assert_equal(found, expected)
                raise AssertionError("the table equals the files, and yet the function is called again and again")
            seen = self.webhook.calls
            time.sleep(0.5)
        return [{"date": date, "service": service, **numbers} for (date, service), numbers in sorted(found.items())]

    def usage(self) -> list:
        """What the function noted of itself, by day."""
        condition = {"#o": "object"}, {":u": {"S": "usage"}}
        answer = self.dynamodb.query(
            TableName=self.tables["parts"],
            KeyConditionExpression="#o = :u",
            ExpressionAttributeNames=condition[0],
            ExpressionAttributeValues=condition[1],
            ConsistentRead=True,
        )
        return [{"day": i["part"]["S"], **{k: float(v["N"]) for k, v in i.items() if "N" in v}} for i in answer["Items"]]

    def log(self) -> str:
        path = self.work / "function.log"
        return path.read_text(encoding="utf-8")[-4000:] if path.exists() else "never called"


def main() -> None:
    world = World(sys.argv[1].split())
    say = lambda answer: print(json.dumps(answer), flush=True)  # noqa: E731
    try:
        say(world.where())
        for line in sys.stdin:
            order = json.loads(line)
            try:
                say({"ok": getattr(world, order.pop("do"))(**order)})
            except Exception as error:  # whoever asked decides
                say({"error": f"{type(error).__name__}: {error}"})
    finally:
        world.close()


if __name__ == "__main__":
    main()
