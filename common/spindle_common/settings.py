"""Settings that both planes read: `SPINDLE_…` variables, a TOML file, secret files; built once, then handed down.

Order, the first wins: arguments, environment, files in the folder `SPINDLE_SECRETS_PATH` (named `spindle_redis_url`
and so on, as container runtimes mount them), the TOML file `SPINDLE_CONFIG`, defaults.
"""

import os
from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SecretsSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)


class CommonSettings(BaseSettings):
    """What control and worker both need to know."""

    model_config = SettingsConfigDict(env_prefix="SPINDLE_", frozen=True, extra="ignore")

    data_dir: Path = Field(Path(".spindle"), description="Where embedded parts keep their data.")
    redis_url: SecretStr | None = Field(None, description="redis://[:password@]host:port/0; unset: the embedded one.")
    s3_url: SecretStr | None = Field(
        None, description="http(s)://KEY:SECRET@host:port/bucket; unset: a folder in the data directory."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least severity logged.")
    log_format: Literal["text", "json"] = Field("text", description="Lines for people, or one JSON object a line.")
    lease_seconds: float = Field(20.0, gt=0, description="How long a worker may keep a task without a beat.")
    beat_seconds: float = Field(5.0, gt=0, description="How often a worker renews its leases.")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Add the folder of secrets and the TOML file to the sources."""
        del dotenv_settings, file_secret_settings
        sources: list[PydanticBaseSettingsSource] = [init_settings, env_settings]
        if secrets := os.environ.get("SPINDLE_SECRETS_PATH"):
            sources.append(SecretsSettingsSource(settings_cls, secrets_dir=secrets))
        if config := os.environ.get("SPINDLE_CONFIG"):
            sources.append(TomlConfigSettingsSource(settings_cls, toml_file=config))
        return tuple(sources)

    @property
    def redis(self) -> str:
        """URL of the Redis to use; an embedded one tells its children through the environment."""
        return self.redis_url.get_secret_value() if self.redis_url else "redis://127.0.0.1:6379/0"
