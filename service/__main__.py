"""Start the service: ``python -m service``, also installed as ``longskip-serve``.

python -m service --help
python -m service key --help
python -m service predict --help
LONGSKIP_MODELS=models python -m service
"""

import signal
import sys
from collections.abc import Sequence
from types import FrameType

from service.command_line import parse_settings

DEVICE_REFUSED, ADDRESS_REFUSED, KEYS_REFUSED, POLICIES_REFUSED = 3, 4, 5, 6


def main(arguments: Sequence[str] | None = None) -> int:
    """Load the models, serve them until SIGTERM or Ctrl-C, return the exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments[:1] == ["key"]:
        from service.keys import main as make_key

        return make_key(arguments[1:])
    if arguments[:1] == ["predict"]:
        from service.predict import main as predict

        return predict(arguments[1:])
    settings = parse_settings(arguments)
    # Here, so that --help and a wrong setting need not wait for them.
    from contract.errors import DeviceUnavailable
    from contract.heap import share_heap
    from service.app import create_app
    from service.errors import AddressUnavailable, KeysInvalid, PoliciesInvalid
    from service.logs import set_up_logging
    from service.repository.load import load_repository
    from service.server import bind, serve

    refusals = {
        DeviceUnavailable: DEVICE_REFUSED,
        AddressUnavailable: ADDRESS_REFUSED,
        KeysInvalid: KEYS_REFUSED,
        PoliciesInvalid: POLICIES_REFUSED,
    }
    share_heap()
    set_up_logging()
    # uvicorn raises the signal again when it is done; the default would then kill with status
    # 143, and as process 1 of a container it would be ignored while the models load.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _exit_cleanly)
    try:
        with bind(settings.host, settings.port) as listener:
            repository = load_repository(settings)
            serve(create_app(settings, repository=repository), settings, repository, listener)
    except tuple(refusals) as error:
        print(f"longskip: not started: {error}", file=sys.stderr)
        return refusals[type(error)]
    return 0


def _exit_cleanly(number: int, frame: FrameType | None) -> None:
    raise SystemExit(0)


if __name__ == "__main__":
    sys.exit(main())
