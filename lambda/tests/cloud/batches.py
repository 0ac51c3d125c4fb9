#!/usr/bin/env python3
"""Of what the function is called with, what is bad fails by itself: a queue is told which messages, S3 which objects; the rest counts.

    batches.py BOOTSTRAP    with SMARTLOG_TEST_MOTO (S3) and SMARTLOG_TEST_DYNAMODB set
"""

from __future__ import annotations

import json
import os
import random
import sys
import tempfile
from pathlib import Path
from urllib.parse import quote_plus

sys.path.insert(0, str(Path(__file__).resolve().parent))

import files  # noqa: E402
from exactly_once import REGION, World  # noqa: E402
from function import Failed, Function  # noqa: E402

DATE = "2026-01-15"
NO_PARQUET = b"PAR1 no Parquet at all PAR1"


def created(bucket: str, key: str) -> dict:
    """A record of a notification."""
    s3 = {"bucket": {"name": bucket}, "object": {"key": quote_plus(key)}}
    return {"eventSource": "aws:s3", "eventName": "ObjectCreated:Put", "s3": s3}


def message(name: str, body: str) -> dict:
    """As a queue hands it over."""
    return {
        "messageId": name,
        "receiptHandle": f"handle-{name}",
        "body": body,
        "attributes": {"ApproximateReceiveCount": "1"},
        "messageAttributes": {},
        "eventSource": "aws:sqs",
        "eventSourceARN": f"arn:aws:sqs:{REGION}:123456789012:files",
        "awsRegion": REGION,
    }


def test_event(bucket: str) -> dict:
    """What S3 sends when a notification is set up."""
    event = {"Service": "Amazon S3", "Event": "s3:TestEvent", "Time": "2026-01-15T10:00:00.000Z", "Bucket": bucket}
    return {**event, "RequestId": "5582815E1AEA5ADF", "HostId": "8cLeGAmw098X5cv4Zkwcmo8vvZa3eH3eKxsPzbB9wrR+YstdA6Knx4Ip8EXAMPLE"}


def main() -> None:
    rng = random.Random(11)
    world = World(rng, f"batches-{os.getpid()}")
    bucket, bad = world.bucket, set()

    def put(name: str, body: bytes) -> str:
        key = f"logs/date={DATE}/{name}"
        world.put(key, body)
        if body == NO_PARQUET:
            bad.add(key)
        return key

    def check(what: str) -> None:
        expected = files.recount(world.s3, bucket, voided=bad)
        found = files.summaries(world.dynamodb, f"{bucket}-sums")
        assert sum(item["total_logs"] for item in found.values()) == rows, f"{what}: {found}"
        files.assert_equal(found, expected)

    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "function.log"
        function = Function(sys.argv[1].split(), world.environment(os.environ["SMARTLOG_TEST_DYNAMODB"]), str(log))
        try:
            rows = 0
            assert function.invoke(test_event(bucket)) is None
            answer = function.invoke({"Records": [message("test", json.dumps(test_event(bucket)))]})
            assert answer == {"batchItemFailures": []}, answer
            check("there is nothing to count in a test")

            # The good one last: it is counted after the others failed.
            keys = {"broken": put("broken 1.parquet", NO_PARQUET), "good": put("good 1.parquet", files.log_file(rng, DATE, ["a", "b"], 700))}
            bodies = {name: json.dumps({"Records": [created(bucket, key)]}) for name, key in keys.items()}
            batch = [message("broken", bodies["broken"]), message("unreadable", "{"), message("good", bodies["good"])]
            answer = function.invoke({"Records": batch})
            assert set(answer) == {"batchItemFailures"}, answer
            failed = sorted(failure["itemIdentifier"] for failure in answer["batchItemFailures"])
            assert failed == ["broken", "unreadable"], answer
            rows = 700
            check("a batch of a queue")

            # S3 knows one answer for the whole call, which it makes again: it fails again, and counts nothing twice.
            broken, good = put("broken 2.parquet", NO_PARQUET), put("good 2.parquet", files.log_file(rng, DATE, ["b", "c"], 300))
            call = {"Records": [created(bucket, key) for key in (broken, "elsewhere/notes.txt", good)]}
            rows = 1000
            for attempt in ("the first call", "the call again"):
                try:
                    answer = function.invoke(call)
                except Failed as error:
                    said = str(error)
                else:
                    raise AssertionError(f"{attempt}: expected an error, found {answer}")
                assert f"broken: {bucket}/{broken}: cannot be read as Parquet" in said, said
                assert "not_ours: expected logs/date=" in said and "found 'elsewhere/notes.txt'" in said, said
                assert good not in said, said
                check(attempt)
            assert function.starts == 1, f"{function.starts} starts: it must not die of what is bad"
        except BaseException:
            print(log.read_text(encoding="utf-8")[-3000:] if log.exists() else "never called")
            raise
        finally:
            function.close()
    print("a batch and two calls: what was bad was named, and the rest equals a recount")


if __name__ == "__main__":
    main()
