"""What the forkserver is told once, at its start: everything that its children need of the worker's settings."""

from pydantic import BaseModel, ConfigDict

PRELOADED = ("diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion",)


class Rearing(BaseModel):
    """Settings of children; travels as JSON."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())

    worker: int
    """Process id of the worker, with which everything ends."""
    path: tuple[str, ...] = ()
    """Where modules are found: the worker's `sys.path`."""
    preload: tuple[str, ...] = PRELOADED
    """Modules imported before the first fork, where torch is installed."""
    nodes: tuple[str, ...] = ()
    test_nodes: bool = False
    models: dict[str, str] = {}
    default_model: str = "tiny"
    data_dir: str | None = None
    device: str = "auto"
    dtype: str = "auto"
    threads: int = 1
    log_level: str = "info"
    log_format: str = "text"
