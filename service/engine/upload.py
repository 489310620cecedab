"""What a client sent, held in memory while it is little, else in a file without a name."""

import asyncio
from tempfile import SpooledTemporaryFile
from typing import BinaryIO, cast

# A larger body goes to the system's temporary folder, as a file that vanishes even when the process
# is killed.
SPOOL_BYTES = 1_000_000


class Upload:
    """The bytes of a body or of a part of one; whoever has it closes it.

    Attributes:
        size: bytes written so far.
        file: where they are.
    """

    def __init__(self) -> None:
        self.size = 0
        self.file = cast(BinaryIO, SpooledTemporaryFile(SPOOL_BYTES))  # noqa: SIM115

    async def write(self, piece: bytes) -> None:
        """Add bytes.

        Raises:
            OSError: the temporary folder is full, or all files that may be open are.
        """
        self.size += len(piece)
        if self.size <= SPOOL_BYTES:
            self.file.write(piece)
        else:  # a disk may let wait
            await asyncio.to_thread(self.file.write, piece)

    def read(self, count: int = -1) -> bytes:
        """Return the first ``count`` bytes, or all; again, when asked again."""
        self.file.seek(0)
        return self.file.read(count)

    async def close(self) -> None:
        """Let go of the bytes."""
        if self.size <= SPOOL_BYTES:
            self.file.close()
        else:
            await asyncio.to_thread(self.file.close)
