"""What keeping an artifact costs: put and get of a 1.5 MB picture in each store, beside the floor under it.

    .venv/bin/python tests/bench/artifacts.py [--rounds N]

Prints one JSON object: milliseconds, p50 and p95 of N rounds, the contenders taking turns. `floor.folder` writes and
syncs (or reads) one plain file in the same folder; `floor.s3` is the bare SDK's call, without digest, check or thread;
`floor.hash` is one SHA-256 of the bytes, which every row below it needs: to name them, or to prove them.
`put_again` puts bytes that are there already. Without the server's packages the S3 rows are null, with the reason.
"""

import argparse
import asyncio
import hashlib
import io
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from minio import Minio

sys.path.insert(0, str(Path(__file__).parents[1]))

from spindle_common.artifacts import ArtifactStore, open_store
from support.radosgw import Missing, S3Server, packages, start

SIZE = 1_500_000
Round = Callable[[int], Awaitable[object]]


def picture(number: int) -> bytes:
    """Return bytes that no other round has."""
    return number.to_bytes(8, "big") + CONTENT


CONTENT = os.urandom(SIZE - 8)


def floor_of_folder(folder: Path) -> dict[str, Round]:
    """Write and sync one file; read it."""

    async def put(number: int) -> None:
        with (folder / str(number)).open("xb") as file:
            file.write(picture(number))
            file.flush()
            os.fsync(file.fileno())

    async def get(number: int) -> bytes:
        return (folder / str(number)).read_bytes()

    return {"put": put, "get": get}


def floor_of_s3(server: S3Server) -> dict[str, Round]:
    """Call the SDK as it is."""
    client = Minio(server.endpoint, server.access_key, server.secret_key, secure=False)
    bucket = f"floor-{uuid4().hex}"
    client.make_bucket(bucket)

    async def put(number: int) -> None:
        client.put_object(bucket, str(number), io.BytesIO(picture(number)), SIZE)

    async def get(number: int) -> bytes:
        with client.get_object(bucket, str(number)) as reply:
            return reply.read()

    return {"put": put, "get": get}


def rows_of(store: ArtifactStore) -> dict[str, Round]:
    """Put, get, get as a stream, and put again."""
    digests: dict[int, str] = {}

    async def put(number: int) -> None:
        digests[number] = (await store.put(picture(number), "image/png"))["digest"]

    async def get(number: int) -> bytes:
        return await store.read(digests[number])

    async def stream(number: int) -> int:
        return sum([len(block) async for block in store.stream(digests[number])])

    return {"put": put, "get": get, "stream": stream, "put_again": put}


async def measure(rows: dict[str, Round], rounds: int) -> dict[str, dict[str, float]]:
    """Time every row in turn, so that a busy moment hits all alike; the first round warms up."""
    taken: dict[str, list[float]] = {name: [] for name in rows}
    for number in range(rounds + 1):
        for name, act in rows.items():
            began = time.perf_counter()
            await act(number)
            taken[name].append((time.perf_counter() - began) * 1000)
    return {name: summary(times[1:]) for name, times in taken.items()}


def summary(times: list[float]) -> dict[str, float]:
    """Return p50 and p95 in milliseconds."""
    return {
        "p50_ms": round(statistics.median(times), 2),
        "p95_ms": round(statistics.quantiles(times, n=20)[-1], 2),
    }


@contextmanager
def s3_server() -> Iterator[S3Server]:
    """Start a server for the time being. Raises Missing."""
    running = start(packages())
    try:
        yield running.server
    finally:
        running.close()


async def compare(store: ArtifactStore, floor: dict[str, Round], rounds: int) -> dict[str, object]:
    """Measure a store beside its floor."""

    async def hash_once(number: int) -> str:
        return hashlib.sha256(picture(number)).hexdigest()

    await store.check()
    rows = {f"floor.{name}": act for name, act in floor.items()} | {"floor.hash": hash_once} | rows_of(store)
    found = await measure(rows, rounds)
    await store.close()
    return dict(found)


async def main() -> None:
    """Run everything and print it."""
    parser = argparse.ArgumentParser(description="Time the artifact stores.")
    parser.add_argument("--rounds", type=int, default=40)
    rounds = parser.parse_args().rounds
    result: dict[str, object] = {"bench": "artifacts", "size": SIZE, "rounds": rounds, "cpus": os.cpu_count()}
    with tempfile.TemporaryDirectory(dir=Path.cwd(), prefix=".bench-") as folder:
        result["folder"] = await compare(open_store(Path(folder)), floor_of_folder(Path(folder)), rounds)
    try:
        with s3_server() as server:
            url = server.url(f"bench-{uuid4().hex}")
            result["s3"] = await compare(open_store(Path("unused"), url), floor_of_s3(server), rounds)
    except Missing as missing:
        result |= {"s3": None, "s3_left_out": str(missing)}
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    asyncio.run(main())
