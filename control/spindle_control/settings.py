"""Settings of the control plane."""

import ipaddress
from pathlib import Path

from pydantic import Field, SecretStr, field_validator

from spindle_common.durations import parse_duration
from spindle_common.settings import CommonSettings

MIB = 1024 * 1024


class ControlSettings(CommonSettings):
    """What the control plane reads from `SPINDLE_…` variables or a file."""

    host: str = Field("127.0.0.1", description="Address to listen on; beyond loopback only with API keys.")
    port: int = Field(8420, ge=0, le=65535, description="Port of the API.")
    database_url: SecretStr | None = Field(
        None, description="postgresql+asyncpg://… or sqlite+aiosqlite:///…; unset: SQLite in the data directory."
    )
    api_keys_file: Path | None = Field(None, description="File of hashed API keys; unset: in the data directory.")
    allowed_origins: frozenset[str] = Field(frozenset(), description="Origins of browser pages that may call the API.")
    allowed_hosts: frozenset[str] = Field(frozenset(), description="Further names under which we are addressed.")
    max_document_bytes: int = Field(MIB, ge=1024, description="Largest workflow with its inputs.")
    max_upload_bytes: int = Field(64 * MIB, ge=1024, description="Largest uploaded artifact.")
    max_nodes: int = Field(2000, ge=1, description="Most nodes in a workflow, bodies included.")
    max_depth: int = Field(16, ge=1, description="Deepest nesting of bodies.")
    max_items: int = Field(10_000, ge=1, description="Most items of a map.")
    max_instances: int = Field(100_000, ge=1, description="Most nodes a run may come to, each item's counted.")
    fuse_chains: bool = Field(
        True, description="Fuse linear chains into one task; off: a task a node, easier to watch."
    )
    tenant_weights: dict[str, float] = Field({}, description='Shares of busy workers: {"acme": 3}; others have 1.')
    max_driven_runs: int = Field(256, ge=1, description="Runs that one control drives at once; more stay queued.")
    max_queued_runs: int = Field(10_000, ge=1, description="Runs that may wait; beyond it submissions get 429.")
    max_tenant_runs: int = Field(5000, ge=1, description="Of these, how many one tenant's may be.")
    max_workflow_versions: int = Field(10_000, ge=1, le=999_999_999, description="Versions kept of one workflow.")
    max_sockets: int = Field(2000, ge=1, description="WebSockets and event streams open at once.")
    socket_queue: int = Field(256, ge=8, description="Events that may wait for a slow socket before it gets `bye`.")
    control_lease_seconds: float = Field(4.0, gt=0, description="After this silence others adopt a control's runs.")
    control_beat_seconds: float = Field(1.0, gt=0, description="How often a control renews its lease.")
    crash_budget: int = Field(3, ge=1, description="Attempts of a task that may end by a dead worker.")
    linger_seconds: float = Field(
        5.0, gt=0, description="How long a run that only waits for answers stays in memory before it is parked."
    )
    archive_seconds: float = Field(60.0, ge=0, description="How long an ended run stays in Redis after archiving.")

    keep_runs: str | None = Field(None, description='How long ended runs are kept, like "30d"; unset: for ever.')
    keep_artifacts: str = Field("24h", description="How long bytes are kept that no run names, since last written.")
    keep_cache: str = Field("7d", description="How long the content cache keeps a result that nobody asks for.")
    keep_idempotency: str = Field("24h", description="How long a repeated Idempotency-Key gives the same run.")
    garbage_seconds: float = Field(3600.0, ge=0, description="Between two garbage collections; 0: never by itself.")
    stuck_seconds: float = Field(
        60.0, gt=0, description="A task waiting longer although slots are free, or a driver this still: not ready."
    )

    @field_validator("keep_runs", "keep_artifacts", "keep_cache", "keep_idempotency")
    @classmethod
    def _duration(cls, value: str | None) -> str | None:
        if value is not None:
            parse_duration(value)
        return value

    @field_validator("tenant_weights")
    @classmethod
    def _positive(cls, value: dict[str, float]) -> dict[str, float]:
        if not all(0.001 <= weight <= 1000 for weight in value.values()):
            raise ValueError("a weight must lie between 0.001 and 1000")
        return value

    def weight_of(self, tenant: str) -> float:
        """A tenant's share of busy workers, beside the 1 of others."""
        return self.tenant_weights.get(tenant, 1.0)

    @property
    def database(self) -> str:
        """URL of the database in use."""
        if self.database_url:
            return self.database_url.get_secret_value()
        return f"sqlite+aiosqlite:///{(self.data_dir / 'spindle.db').absolute()}"

    @property
    def keys_file(self) -> Path:
        """File of the API keys in use."""
        return self.api_keys_file or self.data_dir / "api-keys.json"

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach us."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"
