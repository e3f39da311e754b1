"""How large a document may be; control's settings fill it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Bounds of a workflow; exceeding one is a mistake, never a crash. Sizes are bytes of JSON.

    `max_bodies`: how deep bodies may be nested; `max_items`: how many items a map may have.
    """

    max_nodes: int = 2000
    max_bytes: int = 1 << 20
    max_value_bytes: int = 65_536
    max_depth: int = 96
    max_bodies: int = 16
    max_items: int = 10_000
