"""The packaged function as a process, behind a Runtime API of our own, as AWS Lambda runs it.

    test ── invoke(event) ──▶ Runtime API ──next──▶ bootstrap ──▶ S3, DynamoDB
                                  ▲──── response or error ───┘

The process is started when the first event waits, and again when it ended; killing it at any moment is a crash.
"""

from __future__ import annotations

import http.server
import json
import os
import queue
import subprocess
import threading
import time
import uuid


class Crashed(Exception):
    """The process ended before it answered."""


class Failed(Exception):
    """The function answered with an error."""


class Function:
    """One instance: it works on one event at a time."""

    def __init__(self, command: list, environment: dict, log: str):
        self._command, self._environment, self._log = command, environment, log
        self._events: queue.Queue = queue.Queue()
        self._answers: queue.Queue = queue.Queue()
        self._process: subprocess.Popen | None = None
        self._turn = threading.Lock()
        self.starts = 0
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._server.handle_error = lambda *_: None  # a killed process leaves its connection
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def invoke(self, event, seconds: float = 120.0):
        """The answer to an event; raises Failed or Crashed."""
        with self._turn:
            self._ensure()
            request = str(uuid.uuid4())
            self._answers = queue.Queue()
            self._events.put((request, json.dumps(event).encode()))
            deadline = time.monotonic() + seconds
            while time.monotonic() < deadline:
                try:
                    kind, answered, body = self._answers.get(timeout=0.02)
                except queue.Empty:
                    if self._process.poll() is not None:
                        raise Crashed(f"the function ended with code {self._process.returncode}") from None
                    continue
                if answered == request:
                    if kind == "error":
                        raise Failed(json.loads(body)["errorMessage"])
                    return json.loads(body)
            self.kill()
            raise Crashed(f"no answer within {seconds} s")

    def kill(self) -> None:
        """SIGKILL, as when the machine below the function dies."""
        if self._process and self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def peak_kb(self) -> int:
        """The most memory that the process had so far."""
        with open(f"/proc/{self._process.pid}/status", encoding="utf-8") as status:
            return next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))

    def close(self) -> None:
        self.kill()
        self._server.shutdown()

    def _ensure(self) -> None:
        if self._process and self._process.poll() is None:
            return
        self._events = queue.Queue()  # nothing of a crashed instance is left
        self.starts += 1
        environment = {
            "PATH": os.environ["PATH"],
            "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{self._server.server_port}",
            "AWS_LAMBDA_FUNCTION_NAME": "log-processor",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "256",
            "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
            "AWS_LAMBDA_LOG_GROUP_NAME": "/aws/lambda/log-processor",
            "AWS_LAMBDA_LOG_STREAM_NAME": "test",
            **self._environment,
        }
        with open(self._log, "ab") as log:
            self._process = subprocess.Popen(self._command, env=environment, stdout=log, stderr=log)

    def _handler(function):
        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def do_GET(self):
                events = function._events
                while True:
                    try:
                        request, event = events.get(timeout=0.5)
                        break
                    except queue.Empty:
                        if events is not function._events:
                            return  # the process that asked is gone
                headers = {
                    "Lambda-Runtime-Aws-Request-Id": request,
                    "Lambda-Runtime-Deadline-Ms": str(int(time.time() * 1000) + 300_000),
                    "Lambda-Runtime-Invoked-Function-Arn": "arn:aws:lambda:eu-west-1:123456789012:function:log-processor",
                    "Content-Type": "application/json",
                    "Content-Length": str(len(event)),
                }
                self.send_response(200)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(event)

            def do_POST(self):
                if self.headers.get("Transfer-Encoding") == "chunked":
                    body = self._chunked()
                else:
                    body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                _, kind = self.path.rsplit("/", 1)
                request = self.path.split("/")[-2]
                function._answers.put((kind, request, body))
                self.send_response(202)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def _chunked(self) -> bytes:
                body = b""
                while True:
                    size = int(self.rfile.readline().split(b";")[0], 16)
                    body += self.rfile.read(size)
                    self.rfile.readline()
                    if size == 0:
                        return body

        return Handler
