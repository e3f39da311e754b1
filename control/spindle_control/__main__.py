"""`python -m spindle_control` serves the control plane until SIGTERM or SIGINT.

What must not be served is refused before the slow imports.
"""

import sys

import uvloop
from pydantic import ValidationError

from spindle_common.problems import SpindleError
from spindle_common.telemetry import configure_logging
from spindle_control.api_keys import ApiKeys
from spindle_control.open_files import allow_many
from spindle_control.settings import ControlSettings


class Refused(Exception):
    """Serving like this would be unsafe, or cannot work."""


def main() -> int:
    """Serve; the exit status is 0 after a signal, 2 when the settings are refused, 1 when a needed part is away."""
    try:
        settings = ControlSettings()
        configure_logging(settings.log_level, settings.log_format)
        check(settings)
        allow_many()
        from spindle_control.serving import serve

        uvloop.run(serve(settings))
    except (Refused, ValidationError) as refusal:
        return _say(str(refusal), 2)
    except SpindleError as error:
        return _say(f"{error.title}: {error}", 1)
    except KeyboardInterrupt:
        return 0
    return 0


def check(settings: ControlSettings) -> None:
    """Refuse to listen beyond this machine without keys."""
    keys = ApiKeys(settings.keys_file)
    if not settings.loopback and not keys.usable:
        raise Refused(
            f"Refusing to listen on {settings.host}: whoever reaches this address could run anything.\n"
            f"Make an API key first with `spindle keys create`, or listen on 127.0.0.1. (Keys: {keys.path.absolute()})"
        )


def _say(text: str, status: int) -> int:
    sys.stderr.write(f"spindle: {text}\n")
    return status


if __name__ == "__main__":
    sys.exit(main())
