"""``python -m training COMMAND``: from a folder of images and masks to a model file.

Each command has its own ``--help`` with examples.
"""

import errno
import importlib
import sys
from collections.abc import Sequence

from contract.errors import LongskipError

# name: (module with a main(arguments) -> int, one line for the list)
COMMANDS: dict[str, tuple[str, str]] = {
    "phantoms": ("training.data.phantoms_command", "make a small data set of synthetic images"),
    "doctor": ("training.doctor.command", "find what would break or spoil a training"),
    "plan": ("training.plan.command", "what fit would choose for a folder, and why"),
    "fit": ("training.fit.command", "train a net on a folder of images and masks"),
    "export": ("training.graph.command", "turn a run into one self-contained model.onnx"),
    "evaluate": ("training.score.command", "score a model file on a folder of images and masks"),
    "report": ("training.report.command", "write a run's report: one HTML file to send"),
    "compare": ("training.report.compare_command", "hold runs side by side"),
    "probe": ("training.probe.command", "look into a trained net, by one instrument at a time"),
    "study": ("training.study.command", "a grid of trainings that answers one question"),
    "bench": ("training.bench.command", "time and memory of a model file and its variants"),
    "demo": ("training.demo", "all of it on phantoms, with and without skips, through REST"),
}

# A path that cannot be read or written is for the user to mend, whichever command was given it.
OF_THE_PATH = (
    *(errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP),
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0 done, 1 refused, 2 wrong usage."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or given[0] in ("-h", "--help"):
        print(usage())
        return 0 if given else 2
    name, *rest = given
    if name not in COMMANDS:
        print(f"training: no command {name!r}\n\n{usage()}", file=sys.stderr)
        return 2
    try:
        code: int = importlib.import_module(COMMANDS[name][0]).main(rest)
    except LongskipError as error:
        print(f"training {name}: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        if error.errno not in OF_THE_PATH or error.filename is None:
            raise
        print(
            f"training {name}: {error.filename}: {error.strerror}; give another path, or see to "
            "its rights and room",
            file=sys.stderr,
        )
        return 1
    except KeyboardInterrupt as stop:
        advice = f"; {stop}" if str(stop) else ""
        print(f"training {name}: stopped by the user{advice}", file=sys.stderr)
        return 130
    return code


def usage() -> str:
    """Return the list of commands."""
    width = max(map(len, COMMANDS))
    rows = [f"  {name:<{width}}  {text}" for name, (_, text) in COMMANDS.items()]
    return "\n".join(
        [
            "usage: python -m training COMMAND [--help]",
            "",
            *rows,
            "",
            "example: python -m training fit --data.root my-images --net.long_skips none",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
