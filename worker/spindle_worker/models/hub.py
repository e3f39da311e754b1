"""Fetches a model by its hub id, safetensors and configurations only, through diffusers' own cache of downloads.

owner/name            the newest revision, or the one in the cache when the hub cannot be reached
owner/name@revision   that branch, tag or commit

What is in that cache already is not asked for again.
"""

import logging
import re
from pathlib import Path

from spindle_worker.models.errors import ModelRefused

HUB_ID = re.compile(r"^[A-Za-z0-9][\w.-]*/[\w.-]+(@[\w./-]+)?$")

log = logging.getLogger(__name__)


def fetch(hub_id: str, cache: Path | None = None) -> Path:
    """Return the folder of a hub model, downloading what is missing. Raises ModelRefused."""
    from diffusers import DiffusionPipeline

    name, _, revision = hub_id.partition("@")
    options = {"revision": revision or None, "use_safetensors": True, "cache_dir": cache, "safety_checker": None}
    try:
        return Path(DiffusionPipeline.download(name, local_files_only=True, **options))
    except Exception as error:  # whatever the cache lacks, the hub may have
        log.info("%s is fetched from the hub (%s)", name, type(error).__name__)
    try:
        return Path(DiffusionPipeline.download(name, **options))
    except Exception as error:
        raise ModelRefused(f"{name} is neither a folder here nor to be had from the hub") from error
