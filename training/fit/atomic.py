"""Files that are either whole or not there: written beside, flushed to the disk, renamed."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO


def replace_file(
    path: Path, write: Callable[[BinaryIO], object], *, keep: Path | None = None
) -> None:
    """Let ``write`` fill a new file and put it at ``path`` in one step.

    A process killed at any moment, or a full disk, leaves the file that was there before.

    Args:
        path: what is replaced.
        write: fills the open file.
        keep: takes the file that was at ``path``. Between the two renames only ``keep`` is there.

    Raises:
        OSError: it could not be written, and names ``path``, which is as it was; nothing is left
            beside it.
    """
    temporary = path.with_name(f".{path.name}.part")
    try:
        with temporary.open("wb") as file:
            write(file)
            file.flush()
            # Without it a rename may reach the disk before the bytes do.
            os.fsync(file.fileno())
        if keep is not None and path.exists():
            path.replace(keep)
        temporary.replace(path)
    except BaseException as error:
        # Of a full disk the system names no file.
        if isinstance(error, OSError) and error.errno is not None and error.filename is None:
            error.filename = str(path)
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Make the rename itself last through a loss of power, where folders can be synced."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
