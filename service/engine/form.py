"""A multipart form (RFC 7578), of which the file parts of one name are kept."""

from multipart import MultipartError, MultipartSegment, PushMultipartParser, parse_options_header

from service.engine.upload import Upload
from service.errors import BodyMalformed

FILE_PART = "file"
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
        boundary = parse_options_header(content_type)[1].get("boundary", "")
        try:
            self._parser = PushMultipartParser(boundary)
        except MultipartError as error:
            raise _malformed("its Content-Type names no boundary that can be one") from error

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
            raise _malformed("what stands between its boundaries is no part of a form") from error

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
                raise _malformed(f"it brings more than {self._max_files} parts {FILE_PART!r}")
            self.uploads.append(Upload())
            return self.uploads[-1]
        self.beside += 1
        if self.beside > OTHERS_MAX:
            raise _malformed(f"it has more than {OTHERS_MAX} parts beside {FILE_PART!r}")
        return None


def _malformed(fault: str) -> BodyMalformed:
    return BodyMalformed(f"the multipart body does not parse: {fault}; send it as -F file=@a.png")
