"""A body for which the system has no room is told to come again; it is no fault of ours."""

import asyncio
import resource
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import Request

from service.engine.admit import admit
from service.engine.form import Form
from service.engine.upload import SPOOL_BYTES
from service.errors import BodyMalformed, Overloaded

BODY = bytes(2 * SPOOL_BYTES)
FORM = (
    b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
    + BODY
    + b"\r\n--x--"
)


@pytest.fixture
def small_files() -> Iterator[None]:
    """No file may grow past the bytes that a body has in memory, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (SPOOL_BYTES // 2, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def _request(body: bytes, content_type: bytes) -> Request:
    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    headers = [(b"content-type", content_type)]
    return Request({"type": "http", "method": "POST", "headers": headers}, receive)


@pytest.mark.parametrize(
    ("body", "content_type"), [(BODY, b"image/png"), (FORM, b"multipart/form-data; boundary=x")]
)
def test_no_room_for_an_upload(small_files: None, body: bytes, content_type: bytes) -> None:
    with pytest.raises(Overloaded, match="no room") as refused:
        asyncio.run(admit(_request(body, content_type), max_body_bytes=10 * SPOOL_BYTES))
    assert refused.value.reason == "uploads"


@pytest.mark.parametrize(
    ("body", "content_type"), [(BODY, b"image/png"), (FORM, b"multipart/form-data; boundary=x")]
)
def test_the_same_upload_where_there_is_room(body: bytes, content_type: bytes) -> None:
    async def read() -> bytes:
        upload = await admit(_request(body, content_type), max_body_bytes=10 * SPOOL_BYTES)
        try:
            return upload.read()
        finally:
            await upload.close()

    assert asyncio.run(read()) == BODY


def form_of(boundary: bytes, disposition: bytes) -> bytes:
    head = b"--" + boundary + b"\r\nContent-Disposition: " + disposition + b"\r\n\r\n"
    return head + b"pixels\r\n--" + boundary + b"--\r\n"


NAMED = b'form-data; name="file"; filename="a.png"'


@pytest.mark.parametrize(
    ("content_type", "boundary", "disposition"),
    [
        (b"boundary=----=_Part_7_1.2", b"----=_Part_7_1.2", NAMED),  # as mail libraries name it
        (b"charset=utf-8; BOUNDARY=x ;more=1", b"x", NAMED),
        (b'boundary="a b/(c)"', b"a b/(c)", NAMED),
        (b"boundary=\xe9", b"\xe9", NAMED),
        (b"boundary=x", b"x", b'form-data; name="file"; filename="Pr\xe4parat.png"'),  # no UTF-8
        (b"boundary=x", b"x", 'form-data; name="file"; filename="é.png"'.encode()),
        (b"boundary=x", b"x", b"form-data; name=file; filename=a.png"),
    ],
)
def test_forms_as_senders_write_them(
    content_type: bytes, boundary: bytes, disposition: bytes
) -> None:
    body = form_of(boundary, disposition)

    async def read(pieces: list[bytes]) -> bytes:
        form = Form(f"multipart/form-data; {content_type.decode('latin-1')}", max_files=1)
        for piece in pieces:
            await form.write(piece)
        form.end()
        (upload,) = form.uploads
        try:
            return upload.read()
        finally:
            await form.close()

    assert asyncio.run(read([body])) == b"pixels"
    assert asyncio.run(read([body[n : n + 1] for n in range(len(body))])) == b"pixels"


@pytest.mark.parametrize(
    ("content_type", "told"),
    [("multipart/form-data", "boundary"), ('multipart/form-data; boundary=""', "boundary")],
)
def test_a_form_without_a_boundary_is_told_so(content_type: str, told: str) -> None:
    with pytest.raises(BodyMalformed, match=told):
        Form(content_type, max_files=1)
