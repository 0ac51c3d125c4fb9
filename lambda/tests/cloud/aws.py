#!/usr/bin/env python3
"""A local AWS whose functions run: moto, and in place of its containers the packaged program behind a Runtime API of our own.

    aws.py PORT LOG    with the Python that has moto

A PUT into a bucket whose notification names a function starts it with S3's event, as it would there: filters, permission and
environment are those that were configured. The package's `bootstrap` is run as it is, an arm64 one under QEMU. What fails is tried
twice more and then goes to the function's on-failure queue.
"""

from __future__ import annotations

import io
import json
import os
import stat
import sys
import tempfile
import threading
import zipfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import boto3  # noqa: E402
from function import Crashed, Failed, Function  # noqa: E402
from moto.awslambda.models import LambdaFunction  # noqa: E402
from moto.server import ThreadedMotoServer  # noqa: E402

ARM64 = 183  # e_machine of ELF
QEMU = ["qemu-aarch64-static", "-L", "/usr/aarch64-linux-gnu"]
ATTEMPTS = 3

port, log = int(sys.argv[1]), sys.argv[2]
endpoint = f"http://127.0.0.1:{port}"
running: dict = {}
lock = threading.Lock()


def start(function) -> Function:
    folder = Path(tempfile.mkdtemp(prefix="smartlog-function-"))
    zipfile.ZipFile(io.BytesIO(function.code_bytes)).extractall(folder)
    program = folder / "bootstrap"
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    machine = program.read_bytes()[18]
    keys = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_REGION": function.region}
    environment = {**keys, "AWS_ENDPOINT_URL": endpoint, **function.environment_vars}
    environment["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"] = str(function.memory_size)
    environment.update({name: value for name, value in os.environ.items() if name.startswith("AWS_ENDPOINT_URL_")})
    return Function([*(QEMU if machine == ARM64 else []), str(program)], environment, log)


def invoke(self, event=None):
    """In place of moto's container: (answer, whether it failed, log lines)."""
    with lock:
        if self.function_name not in running:
            running[self.function_name] = start(self)
    event = json.loads(event) if isinstance(event, str) else event
    for attempt in range(ATTEMPTS):
        try:
            return json.dumps(running[self.function_name].invoke(event)), False, ""
        except (Failed, Crashed) as error:
            reason = str(error)
    clients = {name: boto3.client(name, endpoint_url=endpoint, region_name=self.region) for name in ("lambda", "sqs")}
    config = clients["lambda"].get_function_event_invoke_config(FunctionName=self.function_name)
    queue = config["DestinationConfig"]["OnFailure"]["Destination"].rsplit(":", 1)[1]
    message = {"requestPayload": event, "responsePayload": {"errorMessage": reason}}
    url = clients["sqs"].get_queue_url(QueueName=queue)["QueueUrl"]
    clients["sqs"].send_message(QueueUrl=url, MessageBody=json.dumps(message))
    return json.dumps({"errorMessage": reason}), True, ""


LambdaFunction._invoke_lambda = invoke
os.environ.update(AWS_ACCESS_KEY_ID="test", AWS_SECRET_ACCESS_KEY="test")
server = ThreadedMotoServer(ip_address="127.0.0.1", port=port, verbose=False)
server.start()
print("ready", flush=True)
sys.stdin.read()  # until whoever started this closes it
for each in running.values():
    each.close()
server.stop()
