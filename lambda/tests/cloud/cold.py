#!/usr/bin/env python3
"""How long a cold start takes on this machine: from the start of the process until it asks for its first event.

    cold.py BOOTSTRAP [STARTS]    an arm64 one under QEMU, which is some ten times slower than the machine

What AWS adds, fetching the package and starting its own environment, is not in it; the function's `init` metric is not either.
"""

from __future__ import annotations

import os
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path

QEMU = ["qemu-aarch64-static", "-L", "/usr/aarch64-linux-gnu"]
ARM64 = 183  # e_machine of ELF


def start(command: list[str]) -> tuple[float, int]:
    """Seconds until the first request for an event, and the most memory until then, KiB."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        environment = {
            "AWS_LAMBDA_RUNTIME_API": address,
            "AWS_LAMBDA_FUNCTION_NAME": "log-processor",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "256",
            "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
            "AWS_LAMBDA_LOG_GROUP_NAME": "group",
            "AWS_LAMBDA_LOG_STREAM_NAME": "stream",
            "SMARTLOG_SUMMARIES_TABLE": "sums",
            "SMARTLOG_CONTRIBUTIONS_TABLE": "parts",
            "AWS_REGION": "eu-west-1",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
        }
        began = time.perf_counter()
        process = subprocess.Popen(command, env={**environment, "PATH": os.environ["PATH"]}, stderr=subprocess.DEVNULL)
        connection, _ = server.accept()
        connection.recv(16)
        seconds = time.perf_counter() - began
        status = Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8")
        process.kill()
        process.wait()
        connection.close()
    return seconds, next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))


def main() -> None:
    program = sys.argv[1]
    starts = int(sys.argv[2]) if len(sys.argv) > 2 else 20
    is_arm64 = Path(program).read_bytes()[18] == ARM64
    command = [*(QEMU if is_arm64 else []), program]
    found = [start(command) for _ in range(starts)]
    seconds = sorted(seconds for seconds, _ in found)
    print(
        f"{starts} starts{' under QEMU' if is_arm64 else ''}: median {statistics.median(seconds) * 1000:.1f} ms, "
        f"most {seconds[-1] * 1000:.1f} ms, {max(memory for _, memory in found) / 1024:.0f} MiB, "
        f"{Path(program).stat().st_size / 2**20:.1f} MiB on disk"
    )


if __name__ == "__main__":
    main()
