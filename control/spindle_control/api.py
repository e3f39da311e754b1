"""What every route asks of a request: the services behind it, and whose it is."""

from typing import Any, cast

from starlette.requests import HTTPConnection

from spindle_control.service import Services

PREFIX = "/api/v1"
Json = dict[str, Any]


def services(connection: HTTPConnection) -> Services:
    """The services of the app that handles this request."""
    return cast(Services, connection.app.state.services)


def tenant(connection: HTTPConnection) -> str:
    """Whose request this is; the guard has found out."""
    return cast(str, connection.scope["state"]["tenant"])
