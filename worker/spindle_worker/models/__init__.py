"""Models: what is configured, what is in memory, what can be wrong with one; no torch at import."""

from spindle_worker.models.cache import CacheCounts, CacheEvent, CacheOptions, ModelCache
from spindle_worker.models.device import configure_torch, resolve_device
from spindle_worker.models.errors import ModelChanged, ModelRefused, ModelUnknown
from spindle_worker.models.library import ModelLibrary, Recommended
from spindle_worker.models.loading import LoadedModel

__all__ = [
    "CacheCounts",
    "CacheEvent",
    "CacheOptions",
    "LoadedModel",
    "ModelCache",
    "ModelChanged",
    "ModelLibrary",
    "ModelRefused",
    "ModelUnknown",
    "Recommended",
    "configure_torch",
    "resolve_device",
]
