"""Step 1 of data's way: the request's body comes in, bounded, into memory or a temporary file."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from fastapi import Request

from contract.errors import RequestInvalid
from service.engine.form import FILE_PART, Form
from service.engine.unpack import Readable, check_count, open_zip
from service.engine.upload import Upload
from service.errors import BodyTooLarge, ClientGone, MediaTypeUnsupported, Overloaded

NO_IMAGE = "the body holds no bytes of an image; send one, e.g. -F file=@a.png"
ZIP_TYPES = ("application/zip", "application/x-zip-compressed")


async def admit(request: Request, *, max_body_bytes: int) -> Upload:
    """Take in the image's bytes: the multipart part ``file``, or the raw body.

    Args:
        request: its body has not been touched.
        max_body_bytes: limit on the whole body; what is past it is not read.

    Returns:
        The bytes. The caller closes it.

    Raises:
        BodyTooLarge: more bytes than the limit.
        BodyMalformed: multipart that does not parse or is not whole.
        MediaTypeUnsupported: a Content-Type that is neither multipart nor an image.
        RequestInvalid: no image in the body, or a form that holds more than the image.
        Overloaded: the system has no room for the body.
        ClientGone: the connection closed before the end of the body.
    """
    content_type, media_type = _types(request)
    _check_body_is_plain(request)
    with _told_where_no_room():
        if media_type == "multipart/form-data":
            form = await _read_form(request, content_type, max_body_bytes, 1, _check_one_image)
            return form.uploads[0]
        if media_type in ("", "application/octet-stream") or media_type.startswith("image/"):
            return await _raw(request, max_body_bytes, if_empty=NO_IMAGE)
    raise MediaTypeUnsupported(
        "the Content-Type is neither multipart/form-data nor image/*; send -F file=@image.png, or "
        "--data-binary @image.png with -H 'Content-Type: image/png'"
    )


async def admit_bytes(request: Request, *, max_body_bytes: int) -> Upload:
    """Take in a raw body of any Content-Type and Content-Encoding.

    Raises:
        BodyTooLarge, RequestInvalid, Overloaded, ClientGone: as ``admit``.
    """
    _check_no_upgrade(request)
    with _told_where_no_room():
        return await _raw(
            request, max_body_bytes, if_empty="the body is empty; send {'inputs': […]}"
        )


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
    content_type, media_type = _types(request)
    _check_body_is_plain(request)
    with _told_where_no_room():
        if media_type == "multipart/form-data":
            # One more, so that too many are told as such and not as a body that does not parse.
            most = max_files + 1

            def check(form: Form) -> None:
                check_count(len(form.uploads), max_files)
                _check_nothing_beside(form)

            form = await _read_form(request, content_type, max_body_bytes, most, check)
            return Uploads(form.uploads, form.close)
        if media_type in ZIP_TYPES:
            return await _from_zip(request, max_files, max_body_bytes)
    raise MediaTypeUnsupported(
        "the Content-Type is neither multipart/form-data nor application/zip; send -F file=@a.png "
        "-F file=@b.png, or --data-binary @images.zip with -H 'Content-Type: application/zip'"
    )


async def _from_zip(request: Request, max_files: int, max_bytes: int) -> Uploads:
    upload = await _raw(request, max_bytes)
    try:
        files = await asyncio.to_thread(
            open_zip, upload.file, max_files=max_files, max_bytes=max_bytes
        )
    except BaseException:
        await upload.close()
        raise
    return Uploads(files, upload.close)


async def _raw(request: Request, max_bytes: int, *, if_empty: str = "") -> Upload:
    upload = Upload()
    try:
        async for piece in _pieces(request, max_bytes):
            await upload.write(piece)
        if if_empty and not upload.size:
            raise RequestInvalid(if_empty)
    except BaseException:
        await upload.close()
        raise
    return upload


async def _read_form(
    request: Request,
    content_type: str,
    max_bytes: int,
    max_files: int,
    check: Callable[[Form], None],
) -> Form:
    form = Form(content_type, max_files=max_files)
    try:
        async for piece in _pieces(request, max_bytes):
            await form.write(piece)
        form.end()
        check(form)
    except BaseException:
        await form.close()
        raise
    return form


def _check_one_image(form: Form) -> None:
    if not form.uploads:
        raise RequestInvalid(
            f"the form has no file part named {FILE_PART!r}; send it as -F file=@image.png"
        )
    _check_nothing_beside(form)
    if not form.uploads[0].size:
        raise RequestInvalid(NO_IMAGE)


def _check_nothing_beside(form: Form) -> None:
    if form.beside:  # an option, most likely, that would have no effect
        raise RequestInvalid(
            f"the form has {form.beside} part{'s' * (form.beside > 1)} beside {FILE_PART!r}; "
            "options go into the query of the address, e.g. "
            "segment?format=json&skip_gain=1,1,0,1"
        )


def _types(request: Request) -> tuple[str, str]:
    """Return the Content-Type, and its media type alone."""
    content_type = request.headers.get("content-type", "")
    return content_type, content_type.partition(";")[0].strip().lower()


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


async def _pieces(request: Request, max_bytes: int) -> AsyncIterator[bytes]:
    """Yield the body as it comes, up to the limit."""
    too_large = BodyTooLarge(
        f"the body has more than {max_bytes:,} bytes, the limit of this service; "
        "send a smaller image or a compressed format"
    )
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > max_bytes:
        raise too_large
    received_bytes, more = 0, True
    while more:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientGone("the connection closed before the end of the body")
        piece, more = message.get("body", b""), message.get("more_body", False)
        received_bytes += len(piece)
        if received_bytes > max_bytes:
            raise too_large
        yield piece


@contextmanager
def _told_where_no_room() -> Iterator[None]:
    try:
        yield
    except OSError as error:  # the temporary folder is full, or all files that may be open are
        raise Overloaded(
            "uploads under way leave no room for another. Send the image again in a moment.",
            reason="uploads",
        ) from error
