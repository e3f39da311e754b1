"""A real worker process with the test nodes, on the test run's Redis."""

import subprocess
import sys
from pathlib import Path
from typing import Self

from support.light import environment


class WorkerProcess:
    """Starts one `python -m spindle_worker`, with torch if asked; as a context, stops it at the end."""

    def __init__(self, data_dir: Path, redis_url: str, *, torch: bool = False, **settings: str) -> None:
        self.log = data_dir / "worker.log"
        data_dir.mkdir(parents=True, exist_ok=True)
        own = {
            "SPINDLE_DATA_DIR": str(data_dir),
            "SPINDLE_REDIS_URL": redis_url,
            "SPINDLE_TEST_NODES": "1",
            "SPINDLE_WORKER_PORT": "0",
            "SPINDLE_DEVICE": "cpu",
            "SPINDLE_DRAIN_SECONDS": "3",
        }
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "spindle_worker"],
                env=environment(torch=torch) | own | settings,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
