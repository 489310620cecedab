"""A multipart form (RFC 7578), of which the file parts of one name are kept."""

import re

from multipart import MultipartError, MultipartSegment, PushMultipartParser

from service.engine.upload import Upload
from service.errors import BodyMalformed

FILE_PART = "file"
# Many senders do not quote what RFC 2045 wants quoted, such as ----=_Part_7_1.2.
BOUNDARY = re.compile(r';[ \t]*boundary=(?:"([^"]*)"|([^;]*))', re.IGNORECASE)
# Beside those; none is taken, so any is a mistake that is told.
OTHERS_MAX = 16


class Form:
    """Takes a form's body in pieces of any size.

    Attributes:
        uploads: the file parts named ``file``, in order.
        beside: how many other parts there are, whose content is not kept.
    """

    def __init__(self, content_type: str, *, max_files: int) -> None:
        """Be ready for a body.

        Args:
            content_type: the header, with its boundary.
            max_files: most file parts named ``file``.

        Raises:
            BodyMalformed: there is no boundary in the header, or none that can be used.
        """
        self.uploads: list[Upload] = []
        self.beside = 0
        self._max_files = max_files
        self._current: Upload | None = None
        found = BOUNDARY.search(content_type)
        boundary = (found[1] or found[2] or "").rstrip() if found is not None else ""
        if not boundary:
            raise _malformed("its Content-Type names no boundary")
        # File names come in any charset, and nobody reads them.
        try:
            self._parser = PushMultipartParser(boundary.encode("latin-1"), header_charset="latin-1")
        except MultipartError as error:
            raise _malformed(str(error)) from error

    async def write(self, piece: bytes) -> None:
        """Take the next bytes; what stands behind the closing boundary is passed over.

        Raises:
            BodyMalformed: they do not parse, or bring more parts than may be.
            OSError: see ``Upload.write``.
        """
        if not piece:
            return
        try:
            for event in self._parser.parse(piece):
                if isinstance(event, MultipartSegment):
                    self._current = self._begin(event)
                elif event and self._current is not None:
                    await self._current.write(bytes(event))
        except MultipartError as error:
            raise _malformed(str(error)) from error

    def end(self) -> None:
        """Be told that no more comes.

        Raises:
            BodyMalformed: the body was cut off.
        """
        try:
            self._parser.close()
        except MultipartError as error:
            raise BodyMalformed(
                "the multipart body ends before its closing boundary; send it whole"
            ) from error

    async def close(self) -> None:
        """Let go of all parts."""
        for upload in self.uploads:
            await upload.close()

    def _begin(self, part: MultipartSegment) -> Upload | None:
        if part.name == FILE_PART and part.filename is not None:
            if len(self.uploads) == self._max_files:
                raise _malformed(
                    "it brings several images; send one, or more of them to segment-many"
                    if self._max_files == 1
                    else f"it brings {self._max_files} images or more; send fewer"
                )
            self.uploads.append(Upload())
            return self.uploads[-1]
        self.beside += 1
        if self.beside > OTHERS_MAX:
            raise _malformed(f"it has more than {OTHERS_MAX} parts beside {FILE_PART!r}")
        return None


def _malformed(fault: str) -> BodyMalformed:
    return BodyMalformed(f"the multipart body does not parse: {fault}. Send it as -F file=@a.png")
