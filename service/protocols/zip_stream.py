"""A zip archive that goes out entry by entry, so that it is never whole in memory."""

import io
import zipfile
from typing import IO, cast


class ZipStream:
    """Entries are stored as they are: images and npz archives are compressed already.

    Each entry's size stands before it, not behind, so that readers of streams (Java's) take it.
    """

    def __init__(self) -> None:
        self._window = _Window()
        self._archive = zipfile.ZipFile(cast(IO[bytes], self._window), "w")

    def add(self, name: str, content: bytes) -> bytes:
        """Return the bytes that an entry adds to the archive."""
        self._archive.writestr(zipfile.ZipInfo(name), content)
        return self._window.take()

    def end(self) -> bytes:
        """Return the directory, with which the archive ends."""
        self._archive.close()
        return self._window.take()


class _Window:
    """The archive as `zipfile` sees it: a file of which only what was not taken can be changed."""

    def __init__(self) -> None:
        self._taken_bytes = 0
        self._rest = io.BytesIO()

    def take(self) -> bytes:
        """Return what was written since the last time."""
        taken = self._rest.getvalue()
        self._taken_bytes += len(taken)
        self._rest = io.BytesIO()
        return taken

    def write(self, content: bytes) -> int:
        """Write at the present place."""
        return self._rest.write(content)

    def tell(self) -> int:
        """Return the place in the whole archive."""
        return self._taken_bytes + self._rest.tell()

    def seek(self, place: int, whence: int = 0) -> int:
        """Go to a place in the whole archive."""
        if whence != 0:
            raise io.UnsupportedOperation("only from the start")
        return self._taken_bytes + self._rest.seek(place - self._taken_bytes)

    def flush(self) -> None:
        """Do nothing; `zipfile` asks for it."""
