#!/usr/bin/env python3
"""Random permutations of events, with duplicates, replacements, losses and crashes between calls: the table equals a recount.

    exactly_once.py BOOTSTRAP ROUNDS SEED    with SMARTLOG_TEST_MOTO (S3) and SMARTLOG_TEST_DYNAMODB set

Each round is a bucket and two tables of its own. Two instances of the function work on it at the same time; each sits behind a proxy
that kills it at a random request to DynamoDB, before the request or after it was done and before its answer came.
"""

from __future__ import annotations

import os
import random
import sys
import tempfile
import threading
from pathlib import Path
from urllib.parse import quote_plus

import boto3

sys.path.insert(0, str(Path(__file__).resolve().parent))

import files  # noqa: E402
from function import Crashed, Failed, Function  # noqa: E402
from proxy import Proxy  # noqa: E402

REGION = "eu-west-1"
KEYS = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "region_name": REGION}
DATES = ["2026-01-15", "2026-01-16"]


class World:
    """A bucket, what happened in it, and the events that tell of it."""

    def __init__(self, rng: random.Random, name: str):
        self.rng, self.bucket, self.name = rng, name, name
        self.s3 = boto3.client("s3", endpoint_url=os.environ["SMARTLOG_TEST_MOTO"], **KEYS)
        self.dynamodb = boto3.client("dynamodb", endpoint_url=os.environ["SMARTLOG_TEST_DYNAMODB"], **KEYS)
        self.events: list = []
        self.voided: set = set()
        self._sequence = 0x55AED6DCD90281
        self._manifests = {date: 0 for date in DATES}
        self.s3.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": REGION})
        make_table(self.dynamodb, f"{name}-sums", "date", "service")
        make_table(self.dynamodb, f"{name}-parts", "object", "part")
        few = [f"service-{n}" for n in range(4)]
        # More than fit into one transaction, so that a change takes several.
        self.services = few if rng.random() < 0.5 else few + [f"many-{n}" for n in range(rng.randrange(50, 130))]

    def put(self, key: str, body: bytes) -> None:
        self.s3.put_object(Bucket=self.bucket, Key=key, Body=body)
        self._sequence += self.rng.randrange(1, 1 << 20)
        self.events.append(event(self.bucket, key, f"00{self._sequence:X}", self.rng))

    def step(self) -> None:
        date = self.rng.choice(DATES)
        kind = self.rng.random()
        logs = self._keys(f"logs/date={date}/")
        if kind < 0.5 or not logs:
            name = f"web {self._sequence % 7}+{len(self.events)}-é.parquet"
            self.put(f"logs/date={date}/{name}", self._logs(date))
        elif kind < 0.65:  # overwritten with other rows
            key = self.rng.choice(logs)
            if key not in self.voided:
                self.put(key, self._logs(date))
        elif kind < 0.85:
            count = self.rng.randrange(6)
            self.put(f"anomalies/date={date}/episodes.parquet", files.episodes_file(self.rng, self.services[:4], count, 1))
        else:
            self._manifests[date] += 1
            gone = {key for key in logs if self.rng.random() < 0.4}
            self.voided |= gone
            names = [key.rsplit("/", 1)[1] for key in self.voided if f"date={date}/" in key]
            name = f"_manifest-v{self._manifests[date]}.json"
            self.put(f"logs/date={date}/{name}", files.manifest(date, self._manifests[date], sorted(names)))
            self.s3.put_object(Bucket=self.bucket, Key=f"logs/date={date}/_SUCCESS", Body=f'{{"manifest": "{name}"}}'.encode())
            for key in gone:
                if self.rng.random() < 0.7:
                    self.s3.delete_object(Bucket=self.bucket, Key=key)

    def _logs(self, date: str) -> bytes:
        subset = self.rng.sample(self.services, self.rng.randrange(1, len(self.services) + 1))
        return files.log_file(self.rng, date, subset, self.rng.randrange(1, 1200))

    def _keys(self, prefix: str) -> list:
        found = self.s3.list_objects_v2(Bucket=self.bucket, Prefix=prefix).get("Contents", [])
        return sorted(item["Key"] for item in found if item["Key"].endswith(".parquet"))

    def environment(self, dynamodb: str) -> dict:
        return {
            "SMARTLOG_SUMMARIES_TABLE": f"{self.name}-sums",
            "SMARTLOG_CONTRIBUTIONS_TABLE": f"{self.name}-parts",
            "AWS_REGION": REGION,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_ENDPOINT_URL_S3": os.environ["SMARTLOG_TEST_MOTO"],
            "AWS_ENDPOINT_URL_DYNAMODB": dynamodb,
            "RUST_LOG": "info",
        }


def make_table(dynamodb, name: str, hash_key: str, range_key: str) -> None:
    dynamodb.create_table(
        TableName=name,
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": key, "AttributeType": "S"} for key in (hash_key, range_key)],
        KeySchema=[{"AttributeName": hash_key, "KeyType": "HASH"}, {"AttributeName": range_key, "KeyType": "RANGE"}],
    )


def event(bucket: str, key: str, sequencer: str, rng: random.Random) -> dict:
    """As S3 sends it, or through EventBridge; some S3-compatible servers leave out the sequencer."""
    order = {"sequencer": sequencer} if rng.random() < 0.9 else {}
    if rng.random() < 0.3:
        detail = {"bucket": {"name": bucket}, "object": {"key": key, **order}}
        return {"detail-type": "Object Created", "source": "aws.s3", "detail": detail}
    s3 = {"bucket": {"name": bucket}, "object": {"key": quote_plus(key), **order}}
    return {"Records": [{"eventSource": "aws:s3", "eventName": "ObjectCreated:Put", "s3": s3}]}


def work(function: Function, proxy: Proxy, deliveries: list, rng: random.Random, again: list) -> None:
    """Delivers events until none is left; what failed or crashed is delivered again later, as AWS does."""
    while True:
        try:
            each = deliveries.pop()
        except IndexError:
            return
        if rng.random() < 0.35:
            proxy.arm(rng.randrange(1, 8), rng.random() < 0.5, function.kill)
        try:
            function.invoke(each)
        except (Crashed, Failed):
            again.append(each)
        finally:
            proxy.disarm()


def round_of(bootstrap: list, seed: int, logs: Path) -> tuple[int, str]:
    """How often the function crashed, and what happened in all."""
    rng = random.Random(seed)
    world = World(rng, f"round-{seed}-{os.getpid()}")  # a name of its own, whoever ran before
    proxies = [Proxy(os.environ["SMARTLOG_TEST_DYNAMODB"]) for _ in range(2)]
    log = str(logs / f"{seed}.log")
    functions = [Function(bootstrap, world.environment(proxy.url), log) for proxy in proxies]
    pending: list = []
    again: list = []
    delivered = 0
    try:
        for _ in range(rng.randrange(4, 9)):  # what happens in the bucket, and deliveries in between
            for _ in range(rng.randrange(1, 5)):
                before = len(world.events)
                world.step()
                pending += world.events[before:]
            rng.shuffle(pending)
            now = [pending.pop() for _ in range(rng.randrange(len(pending) + 1))]
            now += [each for each in world.events if rng.random() < 0.2]  # old ones once more
            delivered += len(now)
            parallel(functions, proxies, now, rng, again)
        rest = pending + again
        again.clear()
        rng.shuffle(rest)
        delivered += len(rest)
        parallel(functions, proxies, rest, rng, again)
        for each in again:  # in the end each event went through once
            functions[0].invoke(each)
        expected = files.recount(world.s3, world.bucket, voided=world.voided)
        files.assert_equal(files.summaries(world.dynamodb, f"{world.name}-sums"), expected)
        crashes = sum(proxy.struck for proxy in proxies)
        return crashes, f"{len(world.events)} events, {delivered} deliveries, {crashes} crashes, {len(expected)} sums"
    except (AssertionError, Failed, Crashed) as error:
        raise AssertionError(f"seed {seed}: {error}\nlog of the function: {log}") from error
    finally:
        for each in functions + proxies:
            each.close()


def parallel(functions: list, proxies: list, deliveries: list, rng: random.Random, again: list) -> None:
    threads = []
    for function, proxy in zip(functions, proxies):
        arguments = (function, proxy, deliveries, random.Random(rng.random()), again)
        threads.append(threading.Thread(target=work, args=arguments))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def main() -> None:
    bootstrap, rounds, seed = sys.argv[1].split(), int(sys.argv[2]), int(sys.argv[3])
    logs = Path(tempfile.mkdtemp(prefix="smartlog-lambda-"))
    crashes = 0
    for at in range(rounds):
        crashed, happened = round_of(bootstrap, seed + at, logs)
        crashes += crashed
        print(f"seed {seed + at}: {happened}", flush=True)
    # Of some dozens of deliveries a round, a third is armed; about half of those reach the request at which it strikes.
    assert crashes > 0, f"no crash in {rounds} rounds: nothing was proven about crashes"


if __name__ == "__main__":
    main()
