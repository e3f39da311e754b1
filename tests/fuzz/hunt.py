"""Look for documents that break the compiler: ./dev fuzz SECONDS [SEED]

corpus -> mutate -> judge -> a trait nobody showed before -> made small, kept in tests/fuzz/corpus
                          -> something does not hold      -> made small, kept in tests/fuzz/found, exit status 1

Traits (which mistakes, of what kind, where; which shapes of plan) stand for coverage: they cost nothing to take.
"""

import argparse
import copy
import json
import random
import resource
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from fuzz.judging import Json, Traits, judge
from fuzz.mutating import mutated
from spindle_common.digests import digest_of

HERE = Path(__file__).parent
CORPUS, FOUND = HERE / "corpus", HERE / "found"
_LARGEST = 3000
_MOST_BYTES = 900_000
_TRIES = 200


def corpus(folder: Path = CORPUS) -> dict[str, Json]:
    """Return the cases that are kept, by name."""
    return {path.stem: json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))}


def examples() -> Iterator[Json]:
    """Yield the workflows that users are shown."""
    for path in sorted((HERE.parents[1] / "examples").glob("*.json")):
        found = json.loads(path.read_text())
        yield {"document": found.get("workflow", found)}


def verdict(case: Json) -> tuple[Traits, str | None]:
    """Return the traits of a case, and what is wrong: an exception's type and where it was raised."""
    try:
        return judge(case), None
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a panic of Rust is none of the usual kind
        frames = traceback.extract_tb(error.__traceback__)
        return frozenset(), f"{type(error).__name__} in {frames[-1].name}: {str(error)[:60]}"


def smaller(case: Json, holds: Callable[[Json], bool]) -> Json:
    """Leave out of a case what `holds` does not need."""
    tries = 0
    while True:
        for shrunk in _cuts(case):
            tries += 1
            if tries > _TRIES:
                return case
            if holds(shrunk):
                case = shrunk
                break
        else:
            return case


def _cuts(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        for key in value:
            yield {k: v for k, v in value.items() if k != key}
        for key, inner in value.items():
            for cut in _cuts(inner):
                yield value | {key: cut}
    elif isinstance(value, list) and value:
        yield value[: len(value) // 2]
        yield value[1:]
        for at, inner in enumerate(value):
            for cut in _cuts(inner):
                yield [*value[:at], cut, *value[at + 1 :]]


def _keep(case: Json, folder: Path) -> None:
    text = json.dumps(case, ensure_ascii=True, separators=(",", ":"))
    folder.mkdir(exist_ok=True)
    (folder / f"{digest_of(text.encode())[7:19]}.json").write_text(text + "\n")


class Fuzzer:
    """Cases, what they showed, what was found."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.cases = [*corpus().values(), *examples()]
        self.bytes = sum(path.stat().st_size for path in CORPUS.glob("*.json"))
        self.known: set[str] = set()
        self.wrong: dict[str, Json] = {}
        self.runs = self.kept = 0
        for case in list(self.cases):
            self._judge(case, keep=False)

    def turn(self) -> None:
        """Try one case."""
        self._judge(mutated(self.rng.choice(self.cases), self.cases, self.rng), keep=True)

    def _judge(self, case: Json, *, keep: bool) -> None:
        self.runs += 1
        original = copy.deepcopy(case)
        traits, wrong = verdict(case)
        if wrong is not None and wrong not in self.wrong:
            self.wrong[wrong] = smaller(original, lambda cut: verdict(cut)[1] == wrong)
            _keep(self.wrong[wrong], FOUND)
            print(f"{wrong}: {json.dumps(self.wrong[wrong])[:2000]}", flush=True)
        new = traits - self.known
        self.known |= traits
        if new and keep and len(json.dumps(original)) < _LARGEST * 4:
            small = smaller(original, lambda cut: new <= verdict(cut)[0])
            size = len(json.dumps(small))
            if size <= _LARGEST and self.bytes + size <= _MOST_BYTES:
                self.cases.append(small)
                self.bytes, self.kept = self.bytes + size, self.kept + 1
                _keep(small, CORPUS)


def main() -> int:
    """Fuzz for so many seconds."""
    parser = argparse.ArgumentParser()
    parser.add_argument("seconds", type=float, nargs="?", default=60)
    parser.add_argument("seed", type=int, nargs="?", default=random.SystemRandom().randrange(1 << 30))
    given = parser.parse_args()
    print(f"seed {given.seed}", flush=True)
    fuzzer, end = Fuzzer(given.seed), time.monotonic() + given.seconds
    while time.monotonic() < end:
        fuzzer.turn()
    mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    print(f"{fuzzer.runs} cases, {len(fuzzer.known)} traits, {fuzzer.kept} kept, {len(fuzzer.wrong)} wrong, {mib} MiB")
    return 1 if fuzzer.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
