#!/usr/bin/env python3
"""`smartlog doctor --aws` on a local AWS: before anything is there, after what Terraform plans was created, and after parts went away.
What was created serves the exporter meanwhile: the daily summaries of days exported there are a recount of the files; and a reader
of docs/AWS_SETUP.md, whose commands for the AWS CLI find it as the document says.

    doctor.py BOOTSTRAP SMARTLOG    with SMARTLOG_TEST_TERRAFORM, _TERRAFORM_CONFIG, _MOTO_PYTHON, _AWSCLI set
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import boto3

LAMBDA = Path(__file__).resolve().parents[2] / "lambda" / "tests" / "cloud"
sys.path.insert(0, str(LAMBDA))

import chain  # noqa: E402
import commands  # noqa: E402
import files  # noqa: E402
import planned  # noqa: E402

BUCKET = "smart-log-analyzer-logs-somebody"
TARGET = f"s3://{BUCKET}/lake"


def smartlog(program: str, endpoint: str, folder: str, target: str, *arguments: str) -> subprocess.CompletedProcess:
    settings = {
        "PATH": os.environ["PATH"],
        "NO_PROXY": "127.0.0.1",
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": planned.REGION,
        "SMARTLOG_EXPORT_TARGET": target,
        "SMARTLOG_EXPORT_S3_PATH_STYLE": "true",
        "SMARTLOG_CLOUD_CONTRIBUTIONS_TABLE": "summary_contributions",
    }
    command = [program, *arguments, "--format", "json"]
    done = subprocess.run(command, cwd=folder, env=settings, capture_output=True, text=True, check=False, timeout=120)
    assert done.stdout, done.stderr
    return done


def doctor(program: str, endpoint: str, target: str = TARGET) -> tuple[int, dict]:
    with tempfile.TemporaryDirectory() as folder:
        done = smartlog(program, endpoint, folder, target, "doctor", "--aws")
    return done.returncode, {check["name"]: check for check in json.loads(done.stdout)["checks"]}


def expect(checks: dict, outcome: str, *names: str) -> None:
    found = {name for name, check in checks.items() if check["outcome"] == outcome}
    assert found == set(names), f"expected {outcome} of {sorted(names)}, found {json.dumps(checks, indent=1)}"


def check_export(program: str, endpoint: str, s3, dynamodb) -> str:
    """The demo's logs, of one day or of two about midnight, exported into the bucket: its notification has the function count them.
    One of the days."""
    with tempfile.TemporaryDirectory() as folder:

        def run(*arguments: str) -> dict:
            done = smartlog(program, endpoint, folder, "none", *arguments)
            assert done.returncode == 0, done.stderr
            return json.loads(done.stdout)

        run("demo", "--for", "5s", "--rate", "200", "--listen", "127.0.0.1:0", "--dir", folder)
        # What it streams goes into a folder of its own, which tells the days.
        days = [day.name.removeprefix("date=") for day in Path(folder, "lake", "logs").iterdir()]
        rows = sum(run("export", "--date", day, "--to", TARGET, "--store", f"sqlite:{folder}/demo.db")["rows"] for day in days)
    expected = files.recount(s3, BUCKET, "lake/")
    assert rows > 0 and sum(item.get("total_logs", 0) for item in expected.values()) == rows, (days, rows, expected)
    files.assert_becomes(dynamodb, "daily_summaries", expected)
    return days[0]


def check(program: str, plan: dict, endpoint: str) -> None:
    def aws(service: str):
        return boto3.client(service, endpoint_url=endpoint, region_name=planned.REGION, aws_access_key_id="test", aws_secret_access_key="test")

    tables = ("aws table daily_summaries", "aws table summary_contributions")
    everything = ("aws identity", "aws bucket", "aws notification", "aws function log-processor", *tables, "aws budget")
    code, checks = doctor(program, endpoint)
    assert code == 1
    expect(checks, "ok", "aws identity")
    expect(checks, "failed", "aws bucket", "aws function log-processor", *tables)
    expect(checks, "warning", "aws budget")
    assert "NoSuchBucket" in checks["aws bucket"]["found"] and "make the bucket" in checks["aws bucket"]["advice"], checks
    assert all(checks[table]["found"] == "it is not there" for table in tables), checks

    planned.create.create(plan, endpoint)
    aws("s3").delete_bucket_policy(Bucket=BUCKET)  # moto denies everything under it: it does not look at the condition
    code, checks = doctor(program, endpoint)
    expect(checks, "ok", *everything)
    assert code == 0 and "limit 1" in checks["aws budget"]["found"], checks
    day = check_export(program, endpoint, aws("s3"), aws("dynamodb"))
    commands.check(endpoint, BUCKET, "lake/", day, aws)

    code, checks = doctor(program, endpoint, f"s3://{BUCKET}/elsewhere")
    assert code == 1
    expect(checks, "failed", "aws notification", "aws function log-processor")
    assert "SMARTLOG_EXPORT_PREFIX is `lake/`" in checks["aws function log-processor"]["found"], checks

    aws("dynamodb").update_table(TableName="summary_contributions", DeletionProtectionEnabled=False)
    aws("dynamodb").delete_table(TableName="summary_contributions")
    aws("s3").put_bucket_notification_configuration(Bucket=BUCKET, NotificationConfiguration={})
    code, checks = doctor(program, endpoint)
    assert code == 1
    expect(checks, "failed", "aws notification", "aws table summary_contributions")


def main() -> None:
    bootstrap, program = sys.argv[1:]
    work = Path(tempfile.mkdtemp(prefix="smartlog-doctor-"))
    package = work / "log-processor.zip"
    with zipfile.ZipFile(package, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(bootstrap, "bootstrap")
    plan = planned.plan(work / "terraform", package)
    port = chain.free_port()
    command = [os.environ["SMARTLOG_TEST_MOTO_PYTHON"], LAMBDA / "aws.py", str(port), str(work / "function.log")]
    server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout.readline() == "ready\n", "the local AWS did not start"
        check(program, plan, f"http://127.0.0.1:{port}")
    finally:
        server.stdin.close()
        server.wait(60)
    shutil.rmtree(work)


if __name__ == "__main__":
    main()
