"""One process at a time leads a study: two would run the same cells over each other.

Cells are run by processes of their own, on other machines too; they take no part in this.
"""

import errno
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from training.study.config import StudyError

LOCK = "lock"
# File systems that know no locks; a study there is led unguarded.
WITHOUT_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


@contextmanager
def leading(root: Path) -> Iterator[None]:
    """Hold the lock of the study in ``root``; the kernel releases it when the process dies.

    The file stays and says who held it last. Where the system is not POSIX nothing is locked.

    Raises:
        StudyError: another process holds it.
    """
    if os.name != "posix":
        yield
        return
    import fcntl

    # Not inherited by processes that are started: none of them can hold it on.
    handle = os.open(root / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.read(handle, 200).decode(errors="replace").strip() or "another process"
            raise StudyError(
                f"{root} is being run by {holder}; wait until it has ended, or end it, or give "
                "another --out"
            ) from error
        except OSError as error:
            if error.errno not in WITHOUT_LOCKS:
                raise
        _sign(handle, root / LOCK)
        yield
    finally:
        os.close(handle)


def _sign(handle: int, path: Path) -> None:
    try:
        os.ftruncate(handle, 0)
        os.write(handle, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
    except OSError as error:
        # A full disk: the error of a handle names no file.
        error.filename = str(path)
        raise
