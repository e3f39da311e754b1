"""The one place that sets torch up and translates its errors: device, dtype, threads, noise of third parties."""

import contextlib
import logging
import re
import sys
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spindle_common.problems import OutOfMemory

if TYPE_CHECKING:
    from torch import dtype as Dtype  # noqa: N812

_ACCELERATORS = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg", "/dev/nvhost-ctrl")
_HARMLESS: tuple[tuple[str, type[Warning]], ...] = (
    # diffusers: folders from before it knew better, which it corrects itself
    ("The configuration file of this scheduler", FutureWarning),
    # peft: several adapters over one model are what we want
    ("Already found a `peft_config` attribute", UserWarning),
    # numpy 2 of torch's arrays, in several schedulers of diffusers
    ("__array__ implementation doesn't accept a copy keyword", DeprecationWarning),
    ("__array_wrap__ must accept context and return_scalar arguments", DeprecationWarning),
)
_set_up = threading.local()
_quieted = threading.Event()

log = logging.getLogger(__name__)


def resolve_device(name: str = "auto") -> str:
    """Turn `auto` into cuda, mps or cpu; torch is imported only where there may be an accelerator."""
    if name != "auto":
        return name
    if sys.platform != "darwin" and not any(Path(node).exists() for node in _ACCELERATORS):
        return "cpu"
    import torch

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def resolve_dtype(name: str, device: str, *, unet: bool) -> "Dtype":
    """Turn `auto` into float32 on a CPU; beside that, half precision for UNets and bfloat16 for the others."""
    import torch

    if name != "auto":
        return getattr(torch, name)  # type: ignore[no-any-return]
    if device == "cpu":
        return torch.float32
    return torch.float16 if unet else torch.bfloat16


def configure_torch(threads: int) -> None:
    """Set the threads of one CPU computation, for this thread too (OpenMP counts per thread), and quiet the libraries.

    Two computations that share a busy core through too many threads were 17 times slower than with one each.
    """
    ignore_harmless_warnings()
    if getattr(_set_up, "threads", None) == threads:
        return
    import torch

    torch.set_num_threads(threads)
    with contextlib.suppress(RuntimeError):  # allowed once only, before the first parallel work
        torch.set_num_interop_threads(1)
    _set_up.threads = threads
    quiet()


def quiet() -> None:
    """Turn off progress bars and chatter of diffusers and transformers; what is wrong is raised anyway."""
    if _quieted.is_set():
        return
    import diffusers
    import transformers

    chatter: Any
    for chatter in (diffusers.utils.logging, transformers.utils.logging):
        chatter.set_verbosity_error()
        chatter.disable_progress_bar()
    _quieted.set()


@contextlib.contextmanager
def memory_errors() -> Iterator[None]:
    """Turn a device's or the host's lack of memory into OutOfMemory."""
    try:
        yield
    except MemoryError as error:
        raise OutOfMemory("The host had no memory left") from error
    except RuntimeError as error:
        if _lacks_memory(error):
            release_memory()
            raise OutOfMemory("The device had no memory left; a smaller picture or model needs less") from error
        raise


def _lacks_memory(error: RuntimeError) -> bool:
    """torch.OutOfMemoryError is a RuntimeError; the CPU allocator raises a bare one."""
    return type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in str(error)


def release_memory() -> None:
    """Give cached blocks back to the device."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()


def ignore_harmless_warnings() -> None:
    """Keep known warnings of third parties from whoever runs us with warnings as errors; does nothing the second time.

    Filters belong to the process, so they are set once and stay, rather than being held back around each call.
    """
    present = {filter_[1].pattern for filter_ in warnings.filters if isinstance(filter_[1], re.Pattern)}
    for message, category in _HARMLESS:
        if message not in present:
            warnings.filterwarnings("ignore", message=message, category=category)
