#!/usr/bin/env python3
"""What Terraform plans, created on a local AWS from the plan's JSON: there a PUT starts the function, and the table fills.

    planned.py BOOTSTRAP|PACKAGE.zip    with SMARTLOG_TEST_TERRAFORM, _TERRAFORM_CONFIG, _MOTO_PYTHON set

Judged: the bucket's settings as S3 tells them, the daily summaries against a recount, a broken file against the queue of failures;
and by Terraform alone, what a destroy says and when it may take data with it.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import boto3

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[2]
sys.path.insert(0, str(HERE))
sys.path.insert(0, str(REPOSITORY / "scripts" / "provision" / "terraform"))

import create  # noqa: E402
import files  # noqa: E402

REGION, DATE = "eu-west-1", "2026-01-15"
BUCKET = "smart-log-analyzer-logs-somebody"
TABLES = ("summaries", "contributions")
HOLD_DATA = {"module.bucket.aws_s3_bucket.logs", *(f"module.summaries.aws_dynamodb_table.{name}" for name in TABLES)}
LOST = f"DESTROY LOSES every log file in s3://{BUCKET}/lake/ and every daily summary in the table daily_summaries. "


def plan(folder: Path, package: Path) -> dict:
    shutil.copytree(REPOSITORY / "terraform", folder, ignore=shutil.ignore_patterns(".terraform*"))
    environment = {**os.environ, "TF_CLI_CONFIG_FILE": os.environ["SMARTLOG_TEST_TERRAFORM_CONFIG"], "TF_IN_AUTOMATION": "1"}
    terraform = os.environ["SMARTLOG_TEST_TERRAFORM"]

    def run(*arguments: str) -> str:
        done = subprocess.run([terraform, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"terraform {arguments[0]}:\n{done.stdout}\n{done.stderr}"
        return done.stdout

    run("init", "-input=false", "-no-color")
    variables = {"owner": "somebody", "alert_email": "somebody@example.com", "function_zip": str(package), "prefix": "lake/"}
    variables["create_exporter_user"] = "true"
    given = [f"-var={name}={value}" for name, value in variables.items()]
    run("plan", "-input=false", "-no-color", "-out=plan", *given)
    # On stand-ins, so that also the policies are known that are made of ARNs.
    run("apply", "-input=false", "-no-color", "plan")
    planned = json.loads(run("show", "-json"))
    check_destroy(run, given)
    return planned


def check_destroy(run, given: list) -> None:
    """It says what would be lost, and data is lost only where that was asked for, by an apply before."""

    def changes(*arguments: str) -> tuple[str, dict]:
        said = run("plan", "-input=false", "-no-color", "-out=next", *given, *arguments)
        return said, json.loads(run("show", "-json", "next"))

    said, plan = changes("-destroy")
    assert LOST + "It is refused while they hold data" in said and "Plan: 0 to add, 0 to change, " in said, said
    assert unguarded(plan, "before") == dict.fromkeys(HOLD_DATA, False), unguarded(plan, "before")

    wanted = "-var=destroy_data=true"
    _, plan = changes(wanted)
    assert unguarded(plan, "after") == dict.fromkeys(HOLD_DATA, True), unguarded(plan, "after")
    run("apply", "-input=false", "-no-color", "next")
    said, plan = changes("-destroy", wanted)
    assert LOST + "destroy_data is set: they go without another question." in said, said
    assert unguarded(plan, "before") == dict.fromkeys(HOLD_DATA, True), unguarded(plan, "before")
    run("apply", "-input=false", "-no-color", "next")
    left = json.loads(run("show", "-json"))
    assert "values" not in left, f"a destroy leaves {left}"


def unguarded(plan: dict, when: str) -> dict:
    """Whether bucket and tables may go with what they hold, as they were before a change or are after it."""
    found = {}
    for resource in plan["resource_changes"]:
        setting = resource["change"][when]
        if resource["type"] == "aws_s3_bucket":
            found[resource["address"]] = setting["force_destroy"]
        if resource["type"] == "aws_dynamodb_table":
            found[resource["address"]] = not setting["deletion_protection_enabled"]
    return found


def check_settings(s3, aws, bucket: str) -> None:
    assert s3.get_public_access_block(Bucket=bucket)["PublicAccessBlockConfiguration"]["BlockPublicPolicy"]
    assert s3.get_bucket_versioning(Bucket=bucket)["Status"] == "Enabled"
    rules = {rule["ID"]: rule for rule in s3.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"]}
    assert rules["unfinished-uploads"]["AbortIncompleteMultipartUpload"]["DaysAfterInitiation"] == 1, rules
    assert rules["age-of-logs"]["Expiration"]["Days"] == 365, rules
    tls = json.loads(s3.get_bucket_policy(Bucket=bucket)["Policy"])["Statement"][0]
    assert tls["Effect"] == "Deny" and tls["Condition"] == {"Bool": {"aws:SecureTransport": ["false"]}}, tls
    role = aws("iam").get_role_policy(RoleName="log-processor", PolicyName="least")["PolicyDocument"]
    reads = next(s for s in role["Statement"] if s["Sid"] == "ReadFiles")
    assert set(reads["Resource"]) == {f"arn:aws:s3:::{bucket}/lake/{area}/*" for area in ("logs", "anomalies")}, reads
    limit = aws("budgets").describe_budgets(AccountId="123456789012")["Budgets"][0]["BudgetLimit"]
    assert float(limit["Amount"]) == 1.0 and limit["Unit"] == "USD", limit


def main() -> None:
    work = Path(tempfile.mkdtemp(prefix="smartlog-planned-"))
    package = Path(sys.argv[1])
    if package.suffix != ".zip":
        package = work / "log-processor.zip"
        with zipfile.ZipFile(package, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.write(sys.argv[1], "bootstrap")
    planned = plan(work / "terraform", package)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [os.environ["SMARTLOG_TEST_MOTO_PYTHON"], HERE / "aws.py", str(port), str(work / "function.log")]
    server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout.readline() == "ready\n", "the local AWS did not start"
        check(planned, f"http://127.0.0.1:{port}")
    except BaseException:
        print((work / "function.log").read_text(encoding="utf-8")[-3000:] if (work / "function.log").exists() else "never called")
        raise
    finally:
        server.stdin.close()
        server.wait(20)
    shutil.rmtree(work)


def check(planned: dict, endpoint: str) -> None:
    def aws(service: str):
        keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
        return boto3.client(service, endpoint_url=endpoint, region_name=REGION, **keys)

    count = create.create(planned, endpoint)
    bucket, s3 = BUCKET, aws("s3")
    check_settings(s3, aws, bucket)
    s3.delete_bucket_policy(Bucket=bucket)  # moto denies everything under it: it does not look at the condition
    rng = random.Random(7)
    services = [f"service-{n}" for n in range(60)]

    def put(key: str, body: bytes) -> None:
        s3.put_object(Bucket=bucket, Key=f"lake/{key}", Body=body)

    put(f"logs/date={DATE}/web-0 a+b.parquet", files.log_file(rng, DATE, services, 5000))
    put(f"logs/date={DATE}/web-1.parquet", files.log_file(rng, DATE, services[:3], 900))
    put(f"anomalies/date={DATE}/episodes.parquet", files.episodes_file(rng, services[:3], 9, 1))
    put(f"logs/date={DATE}/web-2.parquet", b"PAR1 no Parquet at all PAR1")
    put(f"logs/date={DATE}/notes.txt", b"not the function's business")
    put(f"logs/date={DATE}/_manifest-v1.json", files.manifest(DATE, 1, ["web-1.parquet"]))
    put(f"anomalies/date={DATE}/episodes.parquet", files.episodes_file(rng, services[:3], 12, 2))

    voided = {f"lake/logs/date={DATE}/{name}" for name in ("web-1.parquet", "web-2.parquet")}
    expected = files.recount(s3, bucket, "lake/", voided)
    files.assert_becomes(aws("dynamodb"), "daily_summaries", expected)
    queue = aws("sqs").get_queue_url(QueueName="log-processor-failures")["QueueUrl"]
    failures = aws("sqs").receive_message(QueueUrl=queue, MaxNumberOfMessages=10).get("Messages", [])
    bodies = [json.loads(message["Body"]) for message in failures]
    assert len(bodies) == 1 and "web-2.parquet: cannot be read as Parquet" in bodies[0]["responsePayload"]["errorMessage"], bodies
    print(f"{count} resources created from the plan; {len(expected)} sums equal a recount; the broken file is in the queue of failures")


if __name__ == "__main__":
    main()
