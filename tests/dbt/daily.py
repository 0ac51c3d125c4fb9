#!/usr/bin/env python3
"""The daily table that dbt made equals daily_summaries, which the function log-processor counted from the exported files.

    daily.py POSTGRES_URL EXPORT_FOLDER BOOTSTRAP     with SMARTLOG_TEST_MOTO (S3) and SMARTLOG_TEST_DYNAMODB set

Prints the number of rows that both have.
"""

import os
import random
import sys
import tempfile
import uuid
from pathlib import Path

import boto3
import psycopg

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "lambda" / "tests" / "cloud"))

from exactly_once import KEYS, REGION, event, make_table  # noqa: E402
from function import Function  # noqa: E402


def main() -> int:
    database, folder, bootstrap = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
    counted = summaries(folder, bootstrap)
    with psycopg.connect(database) as connection:
        rows = connection.execute("select date::text, service, total_logs, error_count, anomaly_count from analytics.daily_service_metrics")
        made = {(date, service): tuple(numbers) for date, service, *numbers in rows.fetchall()}
    for key in sorted(counted.keys() | made.keys()):
        if counted.get(key) != made.get(key):
            print(f"{key}: daily_summaries has {counted.get(key)}, dbt made {made.get(key)}", file=sys.stderr)
    assert counted == made
    print(len(made))
    return 0


def summaries(folder: Path, bootstrap: str) -> dict:
    """Uploads the export, has the function count each object, and reads its table."""
    name = f"dbt-{uuid.uuid4().hex[:8]}"
    s3 = boto3.client("s3", endpoint_url=os.environ["SMARTLOG_TEST_MOTO"], **KEYS)
    dynamodb = boto3.client("dynamodb", endpoint_url=os.environ["SMARTLOG_TEST_DYNAMODB"], **KEYS)
    s3.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": REGION})
    make_table(dynamodb, f"{name}-sums", "date", "service")
    make_table(dynamodb, f"{name}-parts", "object", "part")
    environment = {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": REGION,
        "AWS_ENDPOINT_URL_S3": os.environ["SMARTLOG_TEST_MOTO"],
        "AWS_ENDPOINT_URL_DYNAMODB": os.environ["SMARTLOG_TEST_DYNAMODB"],
        "SMARTLOG_SUMMARIES_TABLE": f"{name}-sums",
        "SMARTLOG_CONTRIBUTIONS_TABLE": f"{name}-parts",
        "SMARTLOG_EXPORT_PREFIX": "",
    }
    rng = random.Random(7)
    function = Function([bootstrap], environment, tempfile.mkstemp(prefix="smartlog-function-")[1])
    try:
        files = sorted(path for path in folder.rglob("*") if path.is_file() and "date=" in str(path))
        for number, path in enumerate(files):
            key = str(path.relative_to(folder))
            s3.put_object(Bucket=name, Key=key, Body=path.read_bytes())
            function.invoke(event(name, key, f"{number:020X}", rng))
    finally:
        function.close()
    found = {}
    for page in dynamodb.get_paginator("scan").paginate(TableName=f"{name}-sums"):
        for item in page["Items"]:
            numbers = tuple(int(item[name]["N"]) for name in ("total_logs", "error_count", "anomaly_count"))
            found[(item["date"]["S"], item["service"]["S"])] = numbers
    return found


if __name__ == "__main__":
    sys.exit(main())
