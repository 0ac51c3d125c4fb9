"""Files as docs/EXPORT.md describes them, made by pyarrow, and the recount that judges the tables. Shares no code with the product."""

from __future__ import annotations

import io
import json
import random
import time
from collections import defaultdict

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

LEVELS = ["TRACE", "DEBUG", "INFO", "INFO", "INFO", "WARN", "ERROR", "FATAL"]
STATES = ["provisional", "open", "resolved", "expired", "retracted"]
LOG_SCHEMA = pa.schema(
    [
        pa.field("timestamp", pa.timestamp("us", tz="UTC"), nullable=False),
        pa.field("level", pa.string(), nullable=False),
        pa.field("service", pa.string(), nullable=False),
        pa.field("host", pa.string()),
        pa.field("message", pa.string(), nullable=False),
        pa.field("message_chars", pa.int32(), nullable=False),
        pa.field("metadata", pa.string()),
        pa.field("request_id", pa.string()),
        pa.field("user_id", pa.string()),
        pa.field("duration_ms", pa.float64()),
        pa.field("kafka_topic", pa.string(), nullable=False),
        pa.field("kafka_partition", pa.int32(), nullable=False),
        pa.field("kafka_offset", pa.int64(), nullable=False),
        pa.field("shape", pa.int64()),
    ]
)


def log_file(rng: random.Random, date: str, services: list[str], rows: int, row_group: int = 500) -> bytes:
    """A file of `logs/date=DATE/`."""
    import datetime

    day = datetime.datetime.fromisoformat(date).replace(tzinfo=datetime.timezone.utc)
    names = sorted(rng.choice(services) for _ in range(rows))
    messages = ["é" * rng.randrange(3) + "timeout " * rng.randrange(9) for _ in range(rows)]
    columns = {
        "timestamp": [day + datetime.timedelta(seconds=rng.randrange(86_400)) for _ in range(rows)],
        "level": [rng.choice(LEVELS) for _ in range(rows)],
        "service": names,
        "host": [rng.choice([None, "h1"]) for _ in range(rows)],
        "message": messages,
        "message_chars": [len(text) for text in messages],
        "metadata": [None] * rows,
        "request_id": [None] * rows,
        "user_id": [None] * rows,
        "duration_ms": [None] * rows,
        "kafka_topic": ["web"] * rows,
        "kafka_partition": [0] * rows,
        "kafka_offset": list(range(rows)),
        "shape": [None] * rows,
    }
    table = pa.table(columns, schema=LOG_SCHEMA)
    return _bytes(table, {"smartlog-rows": str(rows), "smartlog-date": date, "smartlog-generation": "0"}, row_group)


def episodes_file(rng: random.Random, services: list[str], count: int, seq: int) -> bytes:
    """An object of `anomalies/date=DATE/`."""
    table = pa.table(
        {
            "id": pa.array(range(count), pa.int64()),
            "service": pa.array([rng.choice([None, *services]) for _ in range(count)], pa.string()),
            "status": pa.array([rng.choice(STATES) for _ in range(count)], pa.string()),
        }
    )
    return _bytes(table, {"smartlog-event-seq": str(seq)}, 100)


def manifest(date: str, version: int, voided: list[str]) -> bytes:
    document = {"format": "smartlog-manifest/1", "date": date, "version": version, "files": [], "voided": voided}
    return json.dumps(document).encode()


def _bytes(table: pa.Table, footer: dict, row_group: int) -> bytes:
    out = io.BytesIO()
    table = table.replace_schema_metadata({**(table.schema.metadata or {}), **footer})
    pq.write_table(table, out, compression="zstd", row_group_size=row_group)
    return out.getvalue()


def recount(s3, bucket: str, prefix: str = "", voided: set = frozenset()) -> dict:
    """(date, service) to the numbers that daily_summaries must show, from the objects that are in the bucket."""
    sums = defaultdict(lambda: [0, 0, 0, 0])  # logs, errors, characters, anomalies
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
        for item in page.get("Contents", []):
            key = item["Key"]
            if not key.endswith(".parquet") or key in voided:
                continue
            area, day, _ = key.removeprefix(prefix).split("/")
            table = pq.read_table(io.BytesIO(s3.get_object(Bucket=bucket, Key=key)["Body"].read()))
            add = _logs if area == "logs" else _episodes
            for service, numbers in add(table):
                for at, number in enumerate(numbers):
                    sums[day.removeprefix("date="), service][at] += number
    return {key: _item(*numbers) for key, numbers in sums.items() if any(numbers)}


def _logs(table):
    error = pc.is_in(table["level"], value_set=pa.array(["ERROR", "FATAL"]))
    table = table.append_column("error", pc.cast(error, pa.int64())).append_column("chars", pc.utf8_length(table["message"]))
    grouped = table.group_by("service").aggregate([("service", "count"), ("error", "sum"), ("chars", "sum")])
    for row in grouped.to_pylist():
        yield row["service"], (row["service_count"], row["error_sum"], row["chars_sum"], 0)


def _episodes(table):
    for row in table.to_pylist():
        if row["status"] != "retracted":
            yield row["service"] or "__stream__", (0, 0, 0, 1)


def _item(logs: int, errors: int, chars: int, anomalies: int) -> dict:
    item = {"total_logs": logs, "error_count": errors, "anomaly_count": anomalies, "message_chars": chars}
    return {**item, "avg_message_length": chars / logs} if logs else item


def summaries(dynamodb, table: str) -> dict:
    """(date, service) to the numbers that the table shows."""
    found = {}
    for page in dynamodb.get_paginator("scan").paginate(TableName=table, ConsistentRead=True):
        for item in page["Items"]:
            numbers = {name: float(value["N"]) for name, value in item.items() if "N" in value}
            assert item["processed_at"]["S"].endswith("Z"), item
            found[item["date"]["S"], item["service"]["S"]] = numbers
    return found


def assert_becomes(dynamodb, table: str, expected: dict) -> None:
    """Within a minute: S3 calls the function by itself."""
    found = {}
    for _ in range(600):
        found = summaries(dynamodb, table)
        if found == expected:
            return
        time.sleep(0.1)
    assert_equal(found, expected)


def assert_equal(found: dict, expected: dict) -> None:
    """Every number of every day and service, and nothing else."""
    wrong = []
    for key in sorted(found.keys() | expected.keys()):
        have, want = found.get(key), expected.get(key)
        if have is None or want is None or set(have) != set(want):
            wrong.append(f"{key}: the table says {have}, the files {want}")
        elif any(abs(have[name] - want[name]) > 1e-9 for name in want):
            wrong.append(f"{key}: the table says {have}, the files {want}")
    if wrong:
        raise AssertionError(f"{len(wrong)} of {len(expected)} sums differ:\n" + "\n".join(wrong[:10]))
