"""An S3 server on loopback for tests: moto, in a process of its own.

In a thread of the test's process it would hang: pyarrow asks delta-rs for a listing while it holds Python's lock, and a
server in the same process then never gets to answer.
"""

import atexit
import os
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from functools import cache
from urllib.error import URLError
from urllib.request import urlopen

import boto3

BUCKET = "lake"
START_SECONDS = 60


@dataclass(frozen=True)
class S3:
    """A running server with one bucket."""

    endpoint: str

    @property
    def options(self) -> dict[str, str]:
        """Storage options, or environment variables, that reach the server."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": "someone",
            "AWS_SECRET_ACCESS_KEY": "nobody-may-read-this",
            "AWS_REGION": "us-east-1",
            "AWS_ALLOW_HTTP": "true",
        }

    def url(self, prefix: str) -> str:
        """The object-store URL of a prefix in the bucket."""
        return f"s3://{BUCKET}/{prefix}"

    def keys(self, prefix: str) -> list[str]:
        """The keys of all objects below a prefix."""
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix)
        return [entry["Key"] for page in pages for entry in page.get("Contents", [])]

    def put(self, key: str, content: bytes) -> None:
        """Write one object."""
        self._client.put_object(Bucket=BUCKET, Key=key, Body=content)

    def delete(self, key: str) -> None:
        """Delete one object."""
        self._client.delete_object(Bucket=BUCKET, Key=key)

    @property
    def _client(self):  # type: ignore[no-untyped-def]
        return _client(self.endpoint)


@cache
def running() -> S3:
    """The server of this test process, started at first use and stopped with it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "MOTO_S3_DEFAULT_KEY_BUFFER_SIZE": str(256 * 2**20)},
    )
    atexit.register(server.kill)
    s3 = S3(f"http://127.0.0.1:{port}")
    _wait(s3.endpoint, server)
    s3._client.create_bucket(Bucket=BUCKET)
    return s3


@cache
def _client(endpoint: str):  # type: ignore[no-untyped-def]
    return boto3.client(
        "s3",
        endpoint_url=endpoint,
        aws_access_key_id="someone",
        aws_secret_access_key="nobody-may-read-this",
        region_name="us-east-1",
    )


def _wait(endpoint: str, server: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise RuntimeError(f"the S3 server ended with code {server.returncode} before it answered")
        try:
            with urlopen(f"{endpoint}/moto-api/", timeout=1):
                return
        except (URLError, OSError):
            time.sleep(0.05)
    raise RuntimeError(f"the S3 server did not answer within {START_SECONDS} s")
