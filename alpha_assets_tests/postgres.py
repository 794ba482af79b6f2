"""A PostgreSQL database of a test's own, made on the server of this machine and dropped afterwards."""

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg2
import pytest

HOST, PORT = "127.0.0.1", 5432

#: Whoever the server lets in without a password, in this order.
USERS = ("root", "postgres")


@contextmanager
def database() -> Iterator[str]:
    """The URL of an empty database; skips where no server answers, unless CI says that there must be one."""
    user, server = _server()
    name = f"alpha_test_{uuid.uuid4().hex[:12]}"
    with server.cursor() as cursor:
        cursor.execute(f"CREATE DATABASE {name}")
    try:
        yield f"postgresql://{user}@{HOST}:{PORT}/{name}"
    finally:
        with server.cursor() as cursor:
            cursor.execute(f"DROP DATABASE {name} WITH (FORCE)")
        server.close()


def _server() -> tuple[str, "psycopg2.extensions.connection"]:
    refused = []
    for user in USERS:
        try:
            server = psycopg2.connect(host=HOST, port=PORT, user=user, dbname="postgres", connect_timeout=3)
        except psycopg2.OperationalError as error:
            refused.append(f"as {user}: {error}".strip())
        else:
            server.autocommit = True
            return user, server
    absent = f"no PostgreSQL at {HOST}:{PORT} lets us in without a password ({'; '.join(refused)})"
    if os.environ.get("CI") == "true":
        pytest.fail(absent)
    pytest.skip(absent)
