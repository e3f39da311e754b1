"""Which browsers may talk to us: a page of another site must not drive a server on this machine.

Host    bound to loopback without keys, only names of this machine are answered (a page's own name that was
        re-bound to 127.0.0.1 by its DNS server is not one)
Origin  requests that change something, and WebSockets, come from our own pages or from allowed origins;
        programs send no Origin
"""

import ipaddress
from collections.abc import Collection
from urllib.parse import urlsplit

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


def host_name(host: str) -> str:
    """Return the name in a Host header, without its port, in lower case; empty when it is malformed."""
    try:
        return (urlsplit(f"//{host}").hostname or "").rstrip(".")
    except ValueError:
        return ""


def is_loopback(name: str) -> bool:
    """Whether a name or address means this machine, whatever DNS says."""
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name == "localhost"


def host_allowed(host: str, names: Collection[str]) -> bool:
    """Whether a Host header names this machine, or one of the configured names."""
    name = host_name(host)
    return is_loopback(name) or name in names


def origin_allowed(origin: str, scheme: str, host: str, allowed: Collection[str]) -> bool:
    """Whether an Origin header is our own (scheme and Host of the request) or one that is allowed."""
    origin = origin.lower()
    web = {"ws": "http", "wss": "https"}.get(scheme, scheme)
    return origin == f"{web}://{host.lower()}" or origin in allowed
