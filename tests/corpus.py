"""Tries the importers on a folder of foreign workflows: `python tests/corpus.py FOLDER [--all]`.

Prints a line a file, then how many import and which classes and codes keep the others back. Models and adapters are
taken to be there: what is counted is what cannot be translated. Files are data; none of them is kept here.
"""

import argparse
import json
import sys
from collections import Counter
from pathlib import Path
from time import perf_counter

from spindle_common.problems import InvalidRequest
from spindle_control.compiler import Catalog
from spindle_control.importers import Imported, import_document, import_png
from support.offered import offered


def attempt(file: Path, catalog: Catalog) -> Imported | InvalidRequest:
    """Import a file, or return what was in the way."""
    try:
        if file.suffix == ".png":
            return import_png(file.read_bytes(), catalog=catalog)
        return import_document(json.loads(file.read_bytes()), catalog=catalog)
    except InvalidRequest as problem:
        return problem


def reasons(problem: InvalidRequest) -> list[str]:
    """What keeps a file back: codes, with the class where one is named."""
    found = []
    for mistake in problem.errors:
        if mistake.severity == "error":
            named = mistake.code in {"unknown-class", "not-yet"} and mistake.pointer.endswith("/class_type")
            words = mistake.detail.removeprefix("there is no translation of the class ")
            found.append(f"{mistake.code} {words.partition(' is not translated')[0]}" if named else mistake.code)
    return sorted(set(found))


def main() -> int:
    """Try every file below a folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--all", action="store_true", help="print every mistake")
    options = parser.parse_args()
    catalog, imported, kept_back, slowest = offered(), 0, Counter[str](), 0.0
    files = sorted(each for each in options.folder.rglob("*") if each.suffix in {".json", ".png"})
    for file in files:
        started = perf_counter()
        found = attempt(file, catalog)
        slowest = max(slowest, perf_counter() - started)
        name = file.relative_to(options.folder)
        if isinstance(found, Imported):
            imported += 1
            print(f"ok  {name}  {len(found.workflow['nodes'])} nodes, {len(found.notes)} notes")
            continue
        why = reasons(found)
        kept_back.update(why)
        print(f"--  {name}  {'; '.join(why)}")
        for mistake in found.errors if options.all else ():
            print(f"      {mistake.pointer} {mistake.code}: {mistake.detail}")
    print(f"\n{imported} of {len(files)} import; the slowest took {slowest * 1000:.0f} ms\n")
    for reason, count in kept_back.most_common():
        print(f"{count:4}  {reason}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
