"""The commands of docs/AWS_SETUP.md that are for the AWS CLI: run as they stand there, on a local AWS that Terraform's plan was
created on, and what they say is looked at.

    document ─▶ fenced blocks, code within sentences ─▶ `aws …` ─▶ shell ─▶ local AWS
                                                           └ BUCKET, URL, a day: the reader's own
"""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "lambda" / "tests" / "cloud"))

import files  # noqa: E402

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "AWS_SETUP.md"
# Not run: what asks a person, and what version 1 of the CLI, the only one that a package registry has, does not know.
NOT_RUN = ("aws configure", "aws configure sso", "aws logs tail /aws/lambda/log-processor")


def of_document() -> list[str]:
    """Every command for the AWS CLI, each once, in order; one over several lines is one line."""
    text = re.sub(r"\\\n\s*", "", DOCUMENT.read_text(encoding="utf-8"))
    blocks = re.findall(r"^```sh\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    in_blocks = [line for block in blocks for line in block.splitlines() if line.startswith("aws ")]
    within = re.findall(r"`(aws [^`]+)`", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE))
    return list(dict.fromkeys(re.sub(r"\s{2,}#.*", "", command) for command in [*within, *in_blocks]))


class Reader:
    """Somebody with the AWS CLI and credentials, who has a bucket, a queue and exported days."""

    def __init__(self, endpoint: str, own: dict[str, str]):
        self._own = own
        self._folder = tempfile.TemporaryDirectory()
        self.folder = Path(self._folder.name)
        tools = self.folder / "bin"
        tools.mkdir()
        # Not by AWS_ENDPOINT_URL: to version 1 of the CLI that says nothing of SQS.
        (tools / "aws").write_text(f'#!/bin/sh\nexec {os.environ["SMARTLOG_TEST_AWSCLI"]} --endpoint-url {endpoint} "$@"\n', encoding="utf-8")
        (tools / "aws").chmod(0o755)
        self._environment = {
            "PATH": f"{tools}:{os.environ['PATH']}",
            "HOME": str(self.folder),
            "NO_PROXY": "127.0.0.1",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "eu-west-1",
        }

    def follows(self, command: str) -> str:
        for written, own in self._own.items():
            command = command.replace(written, own)
        done = subprocess.run(
            ["bash", "-c", command], cwd=self.folder, env=self._environment, capture_output=True, text=True, check=False, timeout=120
        )
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout


def check(endpoint: str, bucket: str, prefix: str, day: str, aws) -> None:
    """`day` was exported into the bucket, and the function has counted it."""
    queue = aws("sqs").get_queue_url(QueueName="log-processor-failures")["QueueUrl"]
    reader = Reader(endpoint, {"s3://BUCKET/": f"s3://{bucket}/{prefix}", "BUCKET": bucket, "URL": queue, "2026-01-15": day})
    event, expected = failed_and_mended(aws, queue, bucket, prefix, day)
    (reader.folder / "event.json").write_text(json.dumps(event), encoding="utf-8")
    judges = {
        "aws sts get-caller-identity": lambda said: said["Account"] == "123456789012",
        "aws iam create-access-key": lambda said: said["AccessKey"]["AccessKeyId"] in keys_of_the_exporter(aws),
        "aws s3 ls": lambda said: f"{prefix}logs/date={day}/" in said,
        "aws s3api get-bucket-lifecycle-configuration": lambda said: {"unfinished-uploads"} <= {rule["ID"] for rule in said["Rules"]},
        "aws dynamodb query --table-name daily_summaries": lambda said: {(day, i["service"]["S"]) for i in said["Items"]}
        == {each for each in expected if each[0] == day},
        "aws dynamodb query --table-name summary_contributions": lambda said: any(float(i["invocations"]["N"]) > 1 for i in said["Items"]),
        "aws sqs get-queue-attributes": lambda said: said["Attributes"] == {"ApproximateNumberOfMessages": "0"},
        "aws lambda invoke": lambda said: said["StatusCode"] == 200 and "FunctionError" not in said,
    }
    followed = set()
    for command in of_document():
        if command in NOT_RUN:
            continue
        judge = next((judge for judge in judges if command.startswith(judge)), None)
        assert judge, f"{DOCUMENT.name} has a command that nothing here judges: {command}"
        said = reader.follows(command)
        assert judges[judge](json.loads(said) if said.startswith("{") else said), f"{command}: {said}"
        followed.add(judge)
    assert followed == judges.keys(), f"{DOCUMENT.name} has no more: {judges.keys() - followed}"
    files.assert_becomes(aws("dynamodb"), "daily_summaries", expected)  # the event that was sent again counts nothing twice


def failed_and_mended(aws, queue: str, bucket: str, prefix: str, day: str) -> tuple[dict, dict]:
    """The event of a file that was broken, as it lies in the queue of failures; and the summaries once it is mended."""
    key = f"{prefix}logs/date={day}/mended.parquet"
    aws("s3").put_object(Bucket=bucket, Key=key, Body=b"PAR1 no Parquet at all PAR1")
    [message] = aws("sqs").receive_message(QueueUrl=queue)["Messages"]
    aws("sqs").delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
    aws("s3").put_object(Bucket=bucket, Key=key, Body=files.log_file(random.Random(3), day, ["mended"], 100))
    expected = files.recount(aws("s3"), bucket, prefix)
    files.assert_becomes(aws("dynamodb"), "daily_summaries", expected)
    return json.loads(message["Body"])["requestPayload"], expected


def keys_of_the_exporter(aws) -> list[str]:
    return [key["AccessKeyId"] for key in aws("iam").list_access_keys(UserName="smartlog-exporter")["AccessKeyMetadata"]]
