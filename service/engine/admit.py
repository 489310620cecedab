"""Step 1 of data's way: the request's body comes in, bounded, into a temporary file."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from tempfile import SpooledTemporaryFile
from typing import Any, BinaryIO, cast

from fastapi import Request
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from contract.errors import RequestInvalid
from service.engine.unpack import Readable, check_count, open_zip
from service.errors import (
    BodyMalformed,
    BodyTooLarge,
    ClientGone,
    MediaTypeUnsupported,
    Overloaded,
)

FILE_PART = "file"
# A body up to this size stays in memory; a larger one goes to the system's temporary folder, as a
# file without a name, which vanishes even when the process is killed.
SPOOL_BYTES = 1_000_000
FORM_PARTS_MAX = 16

NO_IMAGE = "the body holds no bytes of an image; send one, e.g. -F file=@a.png"
ZIP_TYPES = ("application/zip", "application/x-zip-compressed")

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Any]]


async def admit(request: Request, *, max_body_bytes: int) -> UploadFile:
    """Take in the image's bytes: the multipart part ``file``, or the raw body.

    Args:
        request: its body has not been touched.
        max_body_bytes: limit on the whole body; what is past it is not read.

    Returns:
        The bytes, at their start. The caller closes it.

    Raises:
        BodyTooLarge: more bytes than the limit.
        BodyMalformed: multipart that does not parse or is not whole.
        MediaTypeUnsupported: a Content-Type that is neither multipart nor an image.
        RequestInvalid: no image in the body, or a form that holds more than the image.
        Overloaded: the system has no room for the body.
        ClientGone: the connection closed before the end of the body.
    """
    _check_body_is_plain(request)
    bounded = _bounded(request, max_body_bytes)
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    try:
        if media_type == "multipart/form-data":
            return await _from_multipart(bounded)
        if media_type in ("", "application/octet-stream") or media_type.startswith("image/"):
            return await _not_empty(await _from_raw_body(bounded), NO_IMAGE)
    except OSError as error:  # the temporary folder is full, or all files that may be open are
        raise _no_room() from error
    raise MediaTypeUnsupported(
        "the Content-Type is neither multipart/form-data nor image/*; send -F file=@image.png, or "
        "--data-binary @image.png with -H 'Content-Type: image/png'"
    )


async def admit_bytes(request: Request, *, max_body_bytes: int) -> UploadFile:
    """Take in a raw body of any Content-Type and Content-Encoding.

    Raises:
        BodyTooLarge, RequestInvalid, Overloaded, ClientGone: as ``admit``.
    """
    _check_no_upgrade(request)
    try:
        upload = await _from_raw_body(_bounded(request, max_body_bytes))
    except OSError as error:
        raise _no_room() from error
    return await _not_empty(upload, "the body is empty; send {'inputs': […]}")


@dataclass(frozen=True)
class Uploads:
    """Several images of one request, in order.

    Attributes:
        files: each gives its bytes, or an ``ImageError`` of its own.
        close: lets go of what they lie in.
    """

    files: Sequence[Readable]
    close: Callable[[], Awaitable[None]]


async def admit_many(request: Request, *, max_body_bytes: int, max_files: int) -> Uploads:
    """Take in several images: multipart parts ``file``, or a zip archive as the raw body.

    Raises:
        BodyTooLarge: more bytes than the limit, packed or unpacked.
        BodyMalformed: multipart or an archive that does not parse or is not whole.
        MediaTypeUnsupported: a Content-Type that is neither multipart nor a zip archive's.
        RequestInvalid: no image in the body, more than ``max_files``, or a form that holds more.
        Overloaded, ClientGone: as ``admit``.
    """
    _check_body_is_plain(request)
    bounded = _bounded(request, max_body_bytes)
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    try:
        if media_type == "multipart/form-data":
            return await _from_parts(bounded, max_files)
        if media_type in ZIP_TYPES:
            return await _from_zip(bounded, max_files, max_body_bytes)
    except OSError as error:
        raise _no_room() from error
    raise MediaTypeUnsupported(
        "the Content-Type is neither multipart/form-data nor application/zip; send -F file=@a.png "
        "-F file=@b.png, or --data-binary @images.zip with -H 'Content-Type: application/zip'"
    )


class _Part:
    """A part of a form, which may be read again."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def read(self) -> bytes:
        self._file.seek(0)
        return self._file.read()


async def _from_parts(request: Request, max_files: int) -> Uploads:
    # One more, so that too many are told as such and not as a body that does not parse.
    form = await _parse_form(request, max_files=max_files + 1)
    try:
        parts = form.multi_items()
        files = [part for name, part in parts if name == FILE_PART and isinstance(part, UploadFile)]
        check_count(len(files), max_files)
        _check_nothing_beside(len(parts) - len(files))
    except RequestInvalid:
        await form.close()
        raise
    return Uploads([_Part(part.file) for part in files], form.close)


async def _from_zip(request: Request, max_files: int, max_bytes: int) -> Uploads:
    upload = await _from_raw_body(request)
    try:
        files = await asyncio.to_thread(
            open_zip, upload.file, max_files=max_files, max_bytes=max_bytes
        )
    except BaseException:
        await upload.close()
        raise
    return Uploads(files, upload.close)


async def _parse_form(request: Request, *, max_files: int) -> FormData:
    parser = _WholeForm(
        request.headers, request.stream(), max_files=max_files, max_fields=FORM_PARTS_MAX
    )
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise BodyMalformed(f"the multipart body does not parse: {error.message}") from error
    if not parser.ended:
        await form.close()
        raise BodyMalformed("the multipart body ends before its closing boundary; send it whole")
    return form


def _check_nothing_beside(beside: int) -> None:
    if beside:  # an option, most likely, that would have no effect
        raise RequestInvalid(
            f"the form has {beside} part{'s' * (beside > 1)} beside {FILE_PART!r}; options go into "
            "the query of the address, e.g. segment?format=json&skip_gain=1,1,0,1"
        )


async def _from_multipart(request: Request) -> UploadFile:
    form = await _parse_form(request, max_files=1)
    part = form.get(FILE_PART)
    if not isinstance(part, UploadFile):
        await form.close()
        raise RequestInvalid(
            f"the form has no file part named {FILE_PART!r}; send it as -F file=@image.png"
        )
    try:
        _check_nothing_beside(len(form.multi_items()) - 1)
    except RequestInvalid:
        await form.close()
        raise
    return await _not_empty(part, NO_IMAGE)


async def _from_raw_body(request: Request) -> UploadFile:
    spooled = cast(BinaryIO, SpooledTemporaryFile(SPOOL_BYTES))  # noqa: SIM115
    upload = UploadFile(file=spooled, size=0)
    try:
        async for chunk in request.stream():
            await upload.write(chunk)
        await upload.seek(0)
        return upload
    except BaseException:
        await upload.close()
        raise


async def _not_empty(upload: UploadFile, complaint: str) -> UploadFile:
    if not upload.size:
        await upload.close()
        raise RequestInvalid(complaint)
    return upload


class _WholeForm(MultiPartParser):
    """Starlette's parser, which takes a body that was cut off for a whole one."""

    ended = False

    def on_end(self) -> None:
        """Note that the closing boundary came."""
        self.ended = True


def _check_body_is_plain(request: Request) -> None:
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding != "identity":
        raise MediaTypeUnsupported(
            "the body has a Content-Encoding, which is not read here; send the image as it is"
        )
    _check_no_upgrade(request)


def _check_no_upgrade(request: Request) -> None:
    if "upgrade" in request.headers.get("connection", "").lower():
        # uvicorn's parser takes what follows such a head for another protocol.
        raise RequestInvalid(
            "the request asks to change the protocol (Upgrade), so its body was not read; send it "
            "by HTTP/1.1 (curl --http1.1, Java HttpClient.Version.HTTP_1_1)"
        )


def _bounded(request: Request, max_body_bytes: int) -> Request:
    """Return the request with a body that ends in an error past the limit."""
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > max_body_bytes:
        raise _too_large(max_body_bytes)
    receive: Receive = request.receive
    received_bytes = 0

    async def receive_bounded() -> Message:
        nonlocal received_bytes
        message: Message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone("the connection closed before the end of the body")
        received_bytes += len(message.get("body", b""))
        if received_bytes > max_body_bytes:
            raise _too_large(max_body_bytes)
        return message

    return Request(request.scope, receive_bounded)


def _no_room() -> Overloaded:
    return Overloaded(
        "uploads under way leave no room for another. Send the image again in a moment.",
        reason="uploads",
    )


def _too_large(max_body_bytes: int) -> BodyTooLarge:
    return BodyTooLarge(
        f"the body has more than {max_body_bytes:,} bytes, the limit of this service; "
        "send a smaller image or a compressed format"
    )
