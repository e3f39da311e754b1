# Recipes of the repository; `./dev RECIPE` installs what they need first.

export PATH := justfile_directory() / ".venv/bin:" + justfile_directory() / ".venv/system/usr/bin:" + env("PATH")


set positional-arguments

# List the recipes.
[private]
default:
    @just --justfile "{{ justfile() }}" --list --unsorted

# Run everything here: embedded Redis, control, one worker.
up:
    @exec spindle up

# Run the control plane alone.
serve:
    @exec spindle serve

# Run a worker alone (SPINDLE_REDIS_URL names its Redis).
worker:
    @exec spindle-worker

# The command line, from any folder: ./dev spindle run FILE.json
[no-cd]
spindle *args:
    @exec spindle "$@"

# API keys: ./dev keys create NAME
[no-cd]
keys *args:
    @exec spindle keys "$@"

# Everything that CI checks without running: style, types, imports, drift, shell scripts.
check:
    ruff check .
    ruff format --check .
    mypy common control worker codegen tests
    lint-imports
    python codegen/generate.py --check
    shellcheck dev .ci/run tests/system-packages

# The whole suite under coverage, subprocesses included; fails under 90 %.
test: system-packages
    python -m pytest -n 3 --dist loadscope --no-loadscope-reorder --cov --cov-report=term:skip-covered

# The quick part of the suite.
test-unit:
    python -m pytest tests/unit -q

# Any part of the suite: ./dev pytest tests/unit/test_cli.py -k png
[no-cd]
pytest *args: system-packages
    python -m pytest "$@"

# Break real processes at random, then judge what came of it: ./dev chaos SECONDS SEED [postgres]
chaos seconds="60" seed="" *database:
    @PYTHONPATH=tests exec python tests/chaos/mix.py "{{ seconds }}" "{{ seed }}" {{ database }}

# Look for documents that break the compiler: ./dev fuzz SECONDS SEED
fuzz seconds="60" *seed:
    @PYTHONPATH=tests exec python tests/fuzz/hunt.py "{{ seconds }}" {{ seed }}

# Each promise broken by itself, with the figures of the promise: 30 s away, 1,000 sockets, 10,000 runs.
chaos-promises *args: system-packages
    SPINDLE_CHAOS_FULL=1 python -m pytest tests/chaos tests/e2e/test_survival.py -m "long or not long" -v "$@"

# Figures as JSON, one file of tests/bench: ./dev bench orchestration
bench name="orchestration" *args:
    @shift; PYTHONPATH=tests exec python "tests/bench/{{ name }}.py" "$@"

# Regenerate what is generated: contracts, derived schemas.
gen:
    python codegen/generate.py

# Mend style where that is safe.
fmt:
    ruff check --fix-only -q .
    ruff format .

# Programs of the system that some tests need (promtool), unpacked into .venv; needs root the first time.
[private]
system-packages:
    @tests/system-packages

# Compile the pinned requirements anew; torch stays out of them.
pins *args:
    #!/bin/sh
    set -eu
    for name in run dev control; do
        uv pip compile -q "$@" --universal --python-version 3.11 --no-header --no-annotate \
            --override requirements/overrides.txt -c "$([ $name = run ] && echo requirements/overrides.txt || echo requirements/run.txt)" \
            --no-emit-package spindle-common --no-emit-package spindle-control --no-emit-package spindle-worker \
            --no-emit-package torch --no-emit-package torchvision \
            requirements/$name.in -o requirements/$name.txt
    done
