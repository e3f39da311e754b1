"""Schemas to code, and code to schemas; `--check` fails on drift and says how to mend it.

Way of the data: `common/schemas/*.schema.json` -> datamodel-code-generator -> `common/spindle_common/contracts/`
(Pydantic models), and the settings' and built-in nodes' schemas, which code owns, -> `common/schemas/derived/`, and
the nodes' tables of ports -> `docs/nodes.md`, and the language's tables -> `docs/workflow.md` and `docs/mistakes.md`.
All is generated beside the tree first, so that a check never touches it.
"""

import argparse
import ast
import filecmp
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from derive import builtin_manifest, derived_documents
from language import with_tables
from reference import with_reference

ROOT = Path(__file__).resolve().parent.parent
SCHEMAS = ROOT / "common" / "schemas"
CONTRACTS = ROOT / "common" / "spindle_common" / "contracts"
DERIVED = SCHEMAS / "derived"
NODES_PAGE = ROOT / "docs" / "nodes.md"
LANGUAGE_PAGES = (ROOT / "docs" / "workflow.md", ROOT / "docs" / "mistakes.md")
HEADER = '"""Generated from common/schemas by `just gen`; do not edit."""\n'
OPTIONS = shlex.split(
    "--input-file-type jsonschema --schema-version 2020-12 --output-model-type pydantic_v2.BaseModel "
    "--target-python-version 3.11 --use-annotated --use-standard-collections --use-union-operator "
    "--enum-field-as-literal all --use-schema-description --use-attribute-docstrings --collapse-root-models "
    "--strict-nullable --use-missing-sentinel --use-title-as-name --use-double-quotes --use-exact-imports "
    "--use-one-literal-as-default --allow-population-by-field-name --disable-timestamp --formatters ruff-format"
)

# Pydantic 2.14 moved the sentinel out of `experimental`, and warns of the old place that the generator still names.
_MISSING = ("from pydantic.experimental.missing_sentinel import MISSING", "from pydantic import MISSING")


def generate_contracts(target: Path) -> None:
    """Write the models of every hand-written schema, an `__init__` that re-exports them, and the schemas too."""
    with tempfile.TemporaryDirectory() as scratch:
        inputs = Path(scratch) / "schemas"
        inputs.mkdir()
        for schema in SCHEMAS.glob("*.schema.json"):
            shutil.copy(schema, inputs)
        command = [sys.executable, "-m", "datamodel_code_generator", "--input", str(inputs), "--output", str(target)]
        subprocess.run([*command, *OPTIONS], check=True)
    for module in target.glob("*.py"):
        module.write_text(module.read_text().replace(*_MISSING))
    exports = {module.stem: _classes(module) for module in sorted(target.glob("*_schema.py"))}
    lines = [f"from .{module} import {', '.join(names)}" for module, names in exports.items() if names]
    every = sorted({name for names in exports.values() for name in names})
    listed = "".join(f'    "{name}",\n' for name in every)
    (target / "__init__.py").write_text(HEADER + "\n" + "\n".join(lines) + f"\n\n__all__ = [\n{listed}]\n")
    subprocess.run([sys.executable, "-m", "ruff", "format", "-q", "--no-cache", "--isolated", str(target)], check=True)
    for schema in SCHEMAS.glob("*.schema.json"):
        shutil.copy(schema, target)


def _classes(module: Path) -> list[str]:
    tree = ast.parse(module.read_text())
    return [node.name for node in tree.body if isinstance(node, ast.ClassDef)]


def generate_derived(target: Path) -> None:
    """Write what code owns as JSON Schema: settings of both planes, manifest of the built-in nodes."""
    target.mkdir(parents=True, exist_ok=True)
    for name, text in derived_documents().items():
        (target / name).write_text(text)


def drift(made: Path, kept: Path) -> list[str]:
    """Names of the files that differ between a fresh generation and the tree, either way."""
    names = {p.name for p in (*made.glob("*.*"), *kept.glob("*.*")) if p.is_file()}
    return sorted(
        name
        for name in names
        if not ((made / name).exists() and (kept / name).exists() and filecmp.cmp(made / name, kept / name, False))
    )


def main() -> int:
    """Generate into the tree, or with `--check` compare only; exit status 1 on drift."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="change nothing, fail when the tree is out of date")
    check: bool = parser.parse_args().check
    with tempfile.TemporaryDirectory() as scratch:
        contracts, derived = Path(scratch) / "contracts", Path(scratch) / "derived"
        generate_contracts(contracts)
        if not check:
            _replace(contracts, CONTRACTS)
        stale = [f"{CONTRACTS.relative_to(ROOT)}/{name}" for name in drift(contracts, CONTRACTS)]
        generate_derived(derived)
        if not check:
            _replace(derived, DERIVED)
        stale += [f"{DERIVED.relative_to(ROOT)}/{name}" for name in drift(derived, DERIVED)]
    pages = {NODES_PAGE: with_reference(NODES_PAGE.read_text(), builtin_manifest())}
    pages |= {page: with_tables(page.read_text()) for page in LANGUAGE_PAGES}
    for page, text in pages.items():
        if not check:
            page.write_text(text)
        stale += [str(page.relative_to(ROOT))] if page.read_text() != text else []
    if stale:
        print("out of date:", *stale, "mend it with: ./dev gen, then commit what changed", sep="\n  ")
    return 1 if stale else 0


def _replace(made: Path, kept: Path) -> None:
    kept.mkdir(parents=True, exist_ok=True)
    for old in filter(Path.is_file, kept.glob("*.*")):
        old.unlink()
    for new in filter(Path.is_file, made.glob("*.*")):
        shutil.copy(new, kept)


if __name__ == "__main__":
    sys.exit(main())
