"""The random mix: a workload and a nemesis for so many seconds, then the checker's verdict.

    python tests/chaos/mix.py SECONDS [SEED [postgres]]        (./dev chaos SECONDS SEED postgres)

The seed is printed. What the faults meet depends on the machine's timing too, so a seed repeats the plan, not the
accident; that is why history, evidence and logs are kept in a folder whenever the verdict is not clean.
"""

import asyncio
import contextlib
import dataclasses
import json
import secrets
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import httpx

from chaos.arena import Arena, opened
from chaos.checker import Case, Violation, violations
from chaos.evidence import gather, settle
from chaos.history import History
from chaos.nemesis import Nemesis
from chaos.workload import Workload

_SETTLE = 120.0


async def mix(arena: Arena, history: History, seconds: float, seed: int, *, without: tuple[str, ...] = ()) -> Case:
    """Run workload and nemesis, let everything come to rest, collect what is there."""
    began = time.time()
    workload = Workload(lambda: arena.urls, history, seed)
    nemesis = Nemesis(arena, history, seed, without=without)
    sampler = asyncio.create_task(_sample_health(arena, history))
    try:
        await asyncio.gather(workload.run(seconds), nemesis.run(seconds))
        await asyncio.to_thread(arena.settle_workers)
        await workload.finish(_SETTLE)
        await settle(arena, _SETTLE)
    finally:
        sampler.cancel()
    case = Case(history.lines, await gather(arena, began))
    (arena.folder / "evidence.json").write_text(json.dumps(dataclasses.asdict(case.evidence)))
    return case


async def _sample_health(arena: Arena, history: History) -> None:
    async with httpx.AsyncClient(timeout=4) as http:
        while True:
            for url in arena.urls:
                try:
                    status = (await http.get(f"{url}/health")).status_code
                except httpx.TransportError:
                    status = 0
                history.note("health", url=url, status=status)
            await asyncio.sleep(1)


def verdict(case: Case, found: list[Violation]) -> str:
    """What was done, what came of it, and what is wrong, in words."""
    ends = Counter(record["status"] for record in case.evidence.records.values())
    faults = Counter(line["fault"] for line in case.of("break"))
    lost = [run for run in case.evidence.records if run in case.emptied]
    lines = [
        f"runs      {len(case.accepted)} accepted; " + ", ".join(f"{n} {status}" for status, n in sorted(ends.items())),
        f"in flight {len(lost)} when Redis was emptied",
        f"events    {sum(map(len, case.feeds.values()))}, seen over {len(list(case.of('feed')))} connections",
        f"nodes     {sum(line['what'] == 'begin' for line in case.evidence.executions)} executions",
        f"bytes     {len(case.evidence.blobs)} artifacts read and hashed",
        f"faults    {faults.total()}: " + ", ".join(f"{n} {name}" for name, n in sorted(faults.items())),
        f"verdict   {'clean' if not found else f'{len(found)} violations'}",
    ]
    return "\n".join([*lines, *map(str, found)])


def run_mix(folder: Path, seconds: float, seed: int, *, with_postgres: bool = False) -> tuple[str, list[Violation]]:
    """Run a mix in a folder; returns the verdict and the violations."""
    history = History(folder / "history.jsonl")
    with contextlib.closing(history), opened(folder, with_postgres=with_postgres) as arena:
        arena.fill(controls=2, workers=3)
        case = asyncio.run(mix(arena, history, seconds, seed))
        found = violations(case)
        return verdict(case, found), found


def main() -> int:
    """Run a mix as the command line says."""
    if (database := sys.argv[3:]) not in ([], ["postgres"]):
        sys.exit(f"chaos: {' '.join(database)} is no database to break; there is postgres")
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 60.0
    seed = int(sys.argv[2]) if len(sys.argv) > 2 and sys.argv[2] else secrets.randbelow(10**6)
    folder = Path(tempfile.mkdtemp(prefix=f"chaos-{seed}-"))
    print(f"seed {seed}, {seconds:g} s", flush=True)
    began = time.monotonic()
    text, found = run_mix(folder, seconds, seed, with_postgres=bool(database))
    print(f"{text}\ntook      {time.monotonic() - began:.0f} s")
    if found:
        print(f"history, evidence and logs: {folder}")
        return 1
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
