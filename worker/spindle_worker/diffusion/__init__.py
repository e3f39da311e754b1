"""Our own denoise loop for UNet models, and the step callbacks of those whose loop is theirs; no torch at import."""

from spindle_worker.diffusion.requests import Conditioning, LatentBatch, Request, Watch
from spindle_worker.diffusion.schedulers import NAMES as SCHEDULER_NAMES
from spindle_worker.diffusion.schedulers import SchedulerName, Spacing

__all__ = ["SCHEDULER_NAMES", "Conditioning", "LatentBatch", "Request", "SchedulerName", "Spacing", "Watch"]
