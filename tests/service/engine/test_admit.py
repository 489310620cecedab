"""A body for which the system has no room is told to come again; it is no fault of ours."""

import asyncio
import resource
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import Request

from service.engine.admit import admit
from service.engine.upload import SPOOL_BYTES
from service.errors import Overloaded

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
