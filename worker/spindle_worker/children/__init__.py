"""Native work in child processes: what a fault of it can end is one attempt, never the worker.

    worker --control socket--> forkserver (preloaded, one thread) --fork--> child: a slot's own, serves one attempt
    worker <------------------ frames, on a socket for each child -----------------> child

The forkserver dies with the worker, the children with the forkserver: by the kernel's parent-death signal on Linux,
by the end of the socket elsewhere. Nothing is pickled.
"""

from spindle_worker.children.child import Child, ChildDied, Kept, Reach
from spindle_worker.children.pool import Children, Limits, Loan
from spindle_worker.children.rearing import Rearing

__all__ = ["Child", "ChildDied", "Children", "Kept", "Limits", "Loan", "Reach", "Rearing"]
