#!/usr/bin/env python3
"""Bucket, notification and tables of the Compose set's profile `aws`: compose/aws-setup.sh, run as its service would run it, on MinIO
with the set's own settings and on DynamoDB Local.

    compose.py    with SMARTLOG_TEST_MANIFESTS, _MINIO_PROGRAM, _DYNAMODB, _AWSCLI set

    compose.yaml, compose/aws.env ─▶ settings ─▶ MinIO ◀── aws-setup.sh, twice ──▶ DynamoDB Local
                                                    └── a PUT ──▶ whoever listens where the function would
"""

from __future__ import annotations

import http.server
import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import boto3
from botocore.exceptions import ClientError

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY / "lambda" / "tests" / "cloud"))

import chain  # noqa: E402

TABLES = {"daily_summaries": ("date", "service"), "summary_contributions": ("object", "part")}
PATIENCE = 120


def services() -> dict:
    """The services of the set, as `docker compose --env-file compose/aws.env` would have them."""
    words = [line for line in (REPOSITORY / "compose" / "aws.env").read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    command = [os.environ["SMARTLOG_TEST_MANIFESTS"], "compose", REPOSITORY, *words]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)["services"]


def start_minio(service: dict, work: Path, listener: int) -> tuple[subprocess.Popen, str]:
    """As the set has it, but for its addresses and folders."""
    s3, console = (f"127.0.0.1:{chain.free_port()}" for _ in range(2))
    here = {":9000": s3, ":9001": console, "/data": str(work / "data"), "/queue": str(work / "queue")}
    (work / "queue").mkdir()
    settings = {name: here.get(value, value).replace("log-processor:8080", f"127.0.0.1:{listener}") for name, value in service["environment"].items()}
    command = [os.environ["SMARTLOG_TEST_MINIO_PROGRAM"], *(here.get(word, word) for word in service["command"])]
    # A folder of the root disk will do.
    environment = {"PATH": os.environ["PATH"], "HOME": str(work), "MINIO_CI_CD": "on", **settings}
    with open(work / "minio.log", "wb") as log:
        return subprocess.Popen(command, env=environment, stdout=log, stderr=log), f"http://{s3}"


def set_up(service: dict, work: Path, **here: str) -> subprocess.CompletedProcess:
    """What the service aws-setup runs, with its variables but for the addresses."""
    shell, script = service["entrypoint"]
    [mounted] = [volume["source"] for volume in service["volumes"] if volume["target"] == script]
    path = f"{Path(os.environ['SMARTLOG_TEST_AWSCLI']).parent}:{os.environ['PATH']}"
    environment = {"PATH": path, "HOME": str(work), "NO_PROXY": "127.0.0.1", **service["environment"], **here}
    return subprocess.run([shell, mounted], env=environment, capture_output=True, text=True, check=False, timeout=PATIENCE)


def without_tables(dynamodb) -> None:
    for name in TABLES:
        try:
            dynamodb.delete_table(TableName=name)
        except ClientError as error:
            assert error.response["Error"]["Code"] == "ResourceNotFoundException", error


def found(s3, dynamodb, bucket: str) -> dict:
    """What is there, with the times at which it was made."""
    tables = {}
    for name in TABLES:
        table = dynamodb.describe_table(TableName=name)["Table"]
        keys = {each["KeyType"]: each["AttributeName"] for each in table["KeySchema"]}
        types = {each["AttributeType"] for each in table["AttributeDefinitions"]}
        tables[name] = ((keys["HASH"], keys["RANGE"]), types, table["BillingModeSummary"]["BillingMode"], table["CreationDateTime"])
    made = {each["Name"]: each["CreationDate"] for each in s3.list_buckets()["Buckets"]}
    notified = s3.get_bucket_notification_configuration(Bucket=bucket)
    return {
        "bucket": (made[bucket], s3.get_bucket_location(Bucket=bucket)["LocationConstraint"]),
        "notified": [(each["QueueArn"], each["Events"]) for each in notified["QueueConfigurations"]],
        "tables": tables,
    }


def listen(port: int) -> queue.Queue:
    """Paths and bodies of what is sent where the function would be."""
    told: queue.Queue = queue.Queue()

    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def do_HEAD(self):
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_GET = do_HEAD

        def do_POST(self):
            told.put((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
            self.do_HEAD()

    server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return told


def check(project: dict, work: Path, endpoint: str, listener: int) -> None:
    service = project["aws-setup"]
    variables, there = service["environment"], {"S3": endpoint, "DYNAMODB": os.environ["SMARTLOG_TEST_DYNAMODB"]}
    keys = {"aws_access_key_id": variables["AWS_ACCESS_KEY_ID"], "aws_secret_access_key": variables["AWS_SECRET_ACCESS_KEY"]}
    region, bucket = variables["AWS_DEFAULT_REGION"], variables["BUCKET"]
    s3 = boto3.client("s3", endpoint_url=there["S3"], region_name=region, **keys)
    dynamodb = boto3.client("dynamodb", endpoint_url=there["DYNAMODB"], region_name=region, **keys)
    without_tables(dynamodb)  # of a run before, where services were left to run
    done = set_up(service, work, **there)
    assert done.returncode == 0 and f"bucket {bucket} with its notification" in done.stdout, done
    first = found(s3, dynamodb, bucket)
    assert first["bucket"][1] == region, first
    assert first["notified"] == [(f"arn:minio:sqs:{region}:FUNCTION:webhook", ["s3:ObjectCreated:*"])], first
    assert {name: table[:3] for name, table in first["tables"].items()} == {name: (keys, {"S"}, "PAY_PER_REQUEST") for name, keys in TABLES.items()}, first

    s3.put_object(Bucket=bucket, Key="logs/date=2026-01-15/a.parquet", Body=b"while nobody listens")
    again = set_up(service, work, **there)
    assert again.returncode == 0, again
    assert found(s3, dynamodb, bucket) == first, "what was there stays as it was"
    path, body = listen(listener).get(timeout=PATIENCE)
    function = project["minio"]["environment"]["MINIO_NOTIFY_WEBHOOK_ENDPOINT_FUNCTION"]
    assert function.endswith(path) and path.startswith("/2015-03-31/functions/"), (function, path)
    told = json.loads(body)
    assert told["Key"] == f"{bucket}/logs/date=2026-01-15/a.parquet" and told["Records"][0]["s3"]["bucket"]["name"] == bucket, told

    refused = set_up(service, work, **there, NOTIFY=f"arn:minio:sqs:{region}:NOBODY:webhook")
    assert refused.returncode != 0 and "InvalidArgument" in refused.stderr, refused
    without_tables(dynamodb)


def main() -> None:
    project, listener = services(), chain.free_port()
    with tempfile.TemporaryDirectory(prefix="smartlog-compose-") as folder:
        work = Path(folder)
        minio, endpoint = start_minio(project["minio"], work, listener)
        try:
            chain.wait_for_minio(minio, endpoint, work / "minio.log")
            check(project, work, endpoint, listener)
        finally:
            minio.kill()
            minio.wait()


if __name__ == "__main__":
    main()
