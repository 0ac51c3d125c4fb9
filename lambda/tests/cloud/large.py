#!/usr/bin/env python3
"""A large file is counted within a quarter of the function's 256 MB, by the columns that are needed alone.

    large.py BOOTSTRAP MEGABYTES    with SMARTLOG_TEST_MINIO (and _USER, _PASSWORD) and SMARTLOG_TEST_DYNAMODB set
"""

from __future__ import annotations

import base64
import os
import random
import sys
import tempfile
import time
from pathlib import Path

import boto3
import pyarrow as pa
import pyarrow.parquet as pq

sys.path.insert(0, str(Path(__file__).resolve().parent))

import files  # noqa: E402
from exactly_once import REGION, event, make_table  # noqa: E402
from function import Function  # noqa: E402

DATE, ROWS = "2026-01-15", 131_072
# Resident, at most. Less than half of the file: a function that holds all of it does not pass.
LIMIT_KB = 64 * 1024


def row_group(services: list[str]) -> pa.Table:
    """As many rows as the exporter puts into a row group, with messages that do not compress."""
    text = base64.b64encode(os.urandom(ROWS * 105)).decode()
    messages = [text[at * 140 : at * 140 + 140] for at in range(ROWS)]
    names = sorted(services[at % len(services)] for at in range(ROWS))
    constant = {"host": "h", "metadata": None, "request_id": None, "user_id": None, "duration_ms": None, "kafka_topic": "web", "kafka_partition": 0, "shape": 0}
    columns = {name: [value] * ROWS for name, value in constant.items()}
    columns |= {"timestamp": [1_768_435_200_000_000] * ROWS, "level": [files.LEVELS[at % 8] for at in range(ROWS)], "service": names}
    columns |= {"message": messages, "message_chars": [140] * ROWS, "kafka_offset": list(range(ROWS))}
    arrays = [pa.array(columns[field.name], field.type) for field in files.LOG_SCHEMA]
    return pa.Table.from_arrays(arrays, schema=files.LOG_SCHEMA)


def write(path: Path, megabytes: int, services: list[str]) -> int:
    table, groups = row_group(services), 0
    with pq.ParquetWriter(path, files.LOG_SCHEMA, compression="zstd") as writer:
        while path.stat().st_size < megabytes << 20:
            writer.write_table(table, row_group_size=ROWS)
            groups += 1
        writer.add_key_value_metadata({"smartlog-rows": str(groups * ROWS), "smartlog-date": DATE})
    return groups


def main() -> None:
    megabytes = int(sys.argv[2])
    name = f"large-{os.getpid()}"
    user, password = os.environ["SMARTLOG_TEST_MINIO_USER"], os.environ["SMARTLOG_TEST_MINIO_PASSWORD"]
    keys = {"aws_access_key_id": user, "aws_secret_access_key": password, "region_name": REGION}
    s3 = boto3.client("s3", endpoint_url=os.environ["SMARTLOG_TEST_MINIO"], **keys)
    dynamodb = boto3.client("dynamodb", endpoint_url=os.environ["SMARTLOG_TEST_DYNAMODB"], **keys)
    s3.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": REGION})
    make_table(dynamodb, f"{name}-sums", "date", "service")
    make_table(dynamodb, f"{name}-parts", "object", "part")
    services = [f"service-{at}" for at in range(40)]
    key = f"logs/date={DATE}/large.parquet"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "large.parquet"
        groups = write(path, megabytes, services)
        size = path.stat().st_size
        s3.upload_file(str(path), name, key)
        environment = {
            "SMARTLOG_SUMMARIES_TABLE": f"{name}-sums",
            "SMARTLOG_CONTRIBUTIONS_TABLE": f"{name}-parts",
            "AWS_REGION": REGION,
            "AWS_ACCESS_KEY_ID": user,
            "AWS_SECRET_ACCESS_KEY": password,
            "AWS_ENDPOINT_URL_S3": os.environ["SMARTLOG_TEST_MINIO"],
            "AWS_ENDPOINT_URL_DYNAMODB": os.environ["SMARTLOG_TEST_DYNAMODB"],
        }
        function = Function(sys.argv[1].split(), environment, str(Path(folder) / "log"))
        began = time.monotonic()
        function.invoke(event(name, key, "01", random.Random(1)), 500)
        seconds, peak = time.monotonic() - began, function.peak_kb()
        function.close()
    found = files.summaries(dynamodb, f"{name}-sums")
    assert sum(item["total_logs"] for item in found.values()) == groups * ROWS, found
    assert all(item["avg_message_length"] == 140 for item in found.values()), found
    assert sum(item["error_count"] for item in found.values()) == groups * ROWS // 4, found
    assert peak < LIMIT_KB, f"{peak} KB of memory, expected at most {LIMIT_KB}"
    s3.delete_object(Bucket=name, Key=key)
    print(f"{size >> 20} MiB, {groups * ROWS} rows in {seconds:.1f} s with {peak / 1024:.0f} MiB of memory")


if __name__ == "__main__":
    main()
