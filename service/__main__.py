"""Start the service: ``python -m service``, also installed as ``longskip-serve``.

python -m service --help
LONGSKIP_MODELS=models python -m service
"""

import signal
import sys
from collections.abc import Sequence
from types import FrameType

from contract.errors import DeviceUnavailable
from service.app import create_app
from service.command_line import parse_settings
from service.logs import set_up_logging
from service.repository.load import load_repository
from service.server import serve

DEVICE_REFUSED = 3


def main(arguments: Sequence[str] | None = None) -> int:
    """Load the models, serve them until SIGTERM or Ctrl-C, return the exit status."""
    settings = parse_settings(sys.argv[1:] if arguments is None else arguments)
    set_up_logging()
    # uvicorn raises the signal again when it is done; the default would then kill with status
    # 143, and as process 1 of a container it would be ignored while the models load.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _exit_cleanly)
    try:
        repository = load_repository(settings)
    except DeviceUnavailable as error:
        print(f"longskip: not started: {error}", file=sys.stderr)
        return DEVICE_REFUSED
    return serve(create_app(settings, repository=repository), settings, repository)


def _exit_cleanly(number: int, frame: FrameType | None) -> None:
    raise SystemExit(0)


if __name__ == "__main__":
    sys.exit(main())
