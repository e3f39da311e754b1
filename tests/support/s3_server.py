"""The fixture `radosgw`: one real S3 server a session. A test module asks for it by

    pytest_plugins = ("support.s3_server",)

SPINDLE_TEST_S3_URL=http://KEY:SECRET@host:port/ names a running server to use instead; it needs to let the user make
buckets, and keeps them.
"""

import os
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from support.radosgw import Missing, S3Server, packages, start


@pytest.fixture(scope="session")
def radosgw() -> Iterator[S3Server]:
    """Return an S3 server; the tests that need it are skipped, with the reason, where it cannot be had."""
    if named := os.environ.get("SPINDLE_TEST_S3_URL"):
        parts = urlsplit(named)
        yield S3Server(parts.netloc.rpartition("@")[2], parts.username or "", parts.password or "")
        return
    try:
        tree = packages()
    except Missing as missing:
        pytest.skip(f"left out: what needs a real S3 server. {missing}")
    running = start(tree)
    yield running.server
    running.close()
