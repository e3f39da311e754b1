"""A small asynchronous client of Spindle's API, for the command line and for anybody's programs.

    async with Client("http://127.0.0.1:8420") as spindle:
        run = await spindle.run_and_wait(workflow, {"subject": "a red circle on a blue background"})
        picture = await spindle.download(run["outputs"]["image"])

Replies are the API's JSON, as `dict`. Whatever goes wrong raises `SpindleProblem` with the body that RFC 9457
describes; `Unreachable` is the one where nothing answered. A refusal with Retry-After, and a server that goes away
after it has answered once, are waited for up to `patience` seconds; submissions carry an idempotency key, so trying
them again never makes a second run.
"""

from spindle_control.client.api import DEFAULT_URL, Client
from spindle_control.client.problems import SpindleProblem, Unreachable

__all__ = ["DEFAULT_URL", "Client", "SpindleProblem", "Unreachable"]
