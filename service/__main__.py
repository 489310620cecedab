"""Start the service: ``python -m service``, also installed as ``longskip-serve``.

python -m service --help
LONGSKIP_MODELS=models python -m service
"""

import signal
import sys
from collections.abc import Sequence
from types import FrameType

from service.command_line import parse_settings

DEVICE_REFUSED = 3
ADDRESS_REFUSED = 4


def main(arguments: Sequence[str] | None = None) -> int:
    """Load the models, serve them until SIGTERM or Ctrl-C, return the exit status."""
    settings = parse_settings(sys.argv[1:] if arguments is None else arguments)
    # Here, so that --help and a wrong setting need not wait for them.
    from contract.errors import DeviceUnavailable
    from service.app import create_app
    from service.errors import AddressUnavailable
    from service.logs import set_up_logging
    from service.repository.load import load_repository
    from service.server import bind, serve

    set_up_logging()
    # uvicorn raises the signal again when it is done; the default would then kill with status
    # 143, and as process 1 of a container it would be ignored while the models load.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _exit_cleanly)
    try:
        with bind(settings.host, settings.port) as listener:
            repository = load_repository(settings)
            serve(create_app(settings, repository=repository), settings, repository, listener)
    except (DeviceUnavailable, AddressUnavailable) as error:
        print(f"longskip: not started: {error}", file=sys.stderr)
        return DEVICE_REFUSED if isinstance(error, DeviceUnavailable) else ADDRESS_REFUSED
    return 0


def _exit_cleanly(number: int, frame: FrameType | None) -> None:
    raise SystemExit(0)


if __name__ == "__main__":
    sys.exit(main())
