"""Settings of the data plane."""

import os
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import NoDecode

from spindle_common.settings import CommonSettings

GIB = 1024**3


class WorkerSettings(CommonSettings):
    """What a worker reads from `SPINDLE_…` variables or a file."""

    device: str = Field("auto", pattern=r"^(auto|cpu|mps|cuda(:[0-9]+)?)$", description="auto, cpu, cuda, cuda:1, mps.")
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = Field("auto", description="auto: float32 on a CPU.")
    threads: int = Field(1, ge=1, description="Threads of one CPU computation.")
    cpu_slots: int = Field(
        default_factory=lambda: os.cpu_count() or 1,
        ge=0,
        description="Native tasks at once, each in a process of its own.",
    )
    async_slots: int = Field(64, ge=0, description="Light tasks at once.")
    models: dict[str, str] = Field({}, description='Models by name: {"sd15": "folder or hub id"}.')
    default_model: str = Field("tiny", description="Used where a workflow names no model.")
    model_memory: int = Field(
        8 * GIB, ge=1, description="Bytes that loaded models may take together, in all child processes."
    )
    child_memory: int = Field(0, ge=0, description="Resident bytes at which a child process is killed; 0: no bound.")
    worker_host: str = Field("127.0.0.1", description="Address of health and metrics.")
    worker_port: int = Field(0, ge=0, le=65535, description="Port of health and metrics; 0: any free one.")
    metrics_url: str | None = Field(None, description="Where Prometheus reaches them; unset: host and port.")
    metrics_key: SecretStr | None = Field(None, description="Key for /metrics, needed beyond loopback.")
    nodes: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="Further nodes: Python files or module names on this machine, separated by commas."
    )
    test_nodes: bool = Field(False, description="Offer the test.* node types.")
    cache: bool = Field(True, description="Use results that were computed before, and keep new ones for others.")
    secrets_dir: Path | None = Field(None, description='Folder whose files answer {"$secret": name}.')
    store_patience_seconds: float = Field(
        300.0, ge=0, le=3000, description="How long a store that is away or full is waited for, its task kept."
    )
    drain_seconds: float = Field(
        30.0, ge=0, description="On SIGTERM: time for running tasks to end; a second one cuts it short."
    )

    @field_validator("nodes", mode="before")
    @classmethod
    def _separated(cls, value: Any) -> Any:
        return tuple(filter(None, map(str.strip, value.split(",")))) if isinstance(value, str) else value
