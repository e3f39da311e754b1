"""The worker's part of the content cache (design, section 8): what was computed before is not computed again.

    inputs known -> key -> look -> hit: touch its bytes, commit
                                -> lead: compute, keep, commit      others that want the same wait for it
                                -> elsewhere: hand the task back    once nothing else of it can run

`keys` names a node by what it computes, `cache` speaks with Redis and the object store for all attempts of a worker,
`looking` is one attempt's use of it, `handles` makes what stays in memory only where somebody must run for it.
"""

from spindle_worker.reuse.cache import ContentCache
from spindle_worker.reuse.handles import Handles
from spindle_worker.reuse.keys import Keys, environment
from spindle_worker.reuse.looking import Elsewhere, Looking, Noted

__all__ = ["ContentCache", "Elsewhere", "Handles", "Keys", "Looking", "Noted", "environment"]
