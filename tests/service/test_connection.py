"""A client that never finishes its head, or never reads, does not hold a connection for ever."""

import asyncio
import gc
import json
import logging
import re
import socket
import time
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest

from service import connection
from service.connection import Connection

HEAD_WITHIN_S = 0.4
WITHIN_S = 20.0
HALF_A_HEAD = b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\nX-Slow: "
HALF_AN_UPLOAD = (
    b"POST /v1/models/gated/segment HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\n"
    b"Content-Length: 100000\r\n\r\n\x89PNG"
)
WHOLE_HEAD = b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "HEAD_WITHIN_S", HEAD_WITHIN_S)
    monkeypatch.setattr(connection, "UNREAD_WITHIN_S", 1.0)


@pytest.fixture
def address(serve_in_thread: Any, gated_model: Any) -> Iterator[str]:
    with serve_in_thread([("gated", gated_model)]) as served:
        yield served


@contextmanager
def connected(address: str, *, receive_bytes: int = 1 << 16) -> Iterator[socket.socket]:
    parts = urlsplit(address)
    with socket.socket() as opened:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        opened.settimeout(WITHIN_S)
        opened.connect((parts.hostname, parts.port))
        yield opened


def read_one(opened: socket.socket) -> bytes:
    """Return one answer, whole: its head and its body may come apart."""
    came = b""
    while True:
        head, end, body = came.partition(b"\r\n\r\n")
        length = re.search(rb"content-length: *(\d+)", head, re.IGNORECASE)
        if end and length is not None and len(body) >= int(length[1]):
            return came
        received = opened.recv(1 << 16)
        assert received, came
        came += received


def read_to_end(opened: socket.socket) -> bytes:
    """Return what comes until the service closes; a reset ends it too."""
    came = b""
    try:
        while received := opened.recv(1 << 16):
            came += received
    except ConnectionResetError:
        pass
    return came


@pytest.mark.parametrize("sent", [b"", b"\r\n", b"G", HALF_A_HEAD])
def test_a_head_that_does_not_come_ends_the_connection(address: str, sent: bytes) -> None:
    with connected(address) as opened:
        opened.sendall(sent)
        assert read_to_end(opened) == b""


def test_drops_of_a_head_do_not_win_time(address: str) -> None:
    with connected(address) as opened:
        opened.sendall(HALF_A_HEAD)
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            send_drops(opened)


def send_drops(opened: socket.socket) -> None:
    until_s = time.monotonic() + WITHIN_S
    while time.monotonic() < until_s:
        opened.sendall(b"x")
        time.sleep(0.05)


def test_the_next_head_on_a_kept_connection_has_the_same_limit(address: str) -> None:
    with connected(address) as opened:
        opened.sendall(WHOLE_HEAD)
        assert b"200 OK" in read_one(opened)
        time.sleep(HEAD_WITHIN_S * 1.5)  # idle, which is keep-alive's to end
        opened.sendall(WHOLE_HEAD)
        assert b"200 OK" in read_one(opened)
        opened.sendall(HALF_A_HEAD)
        assert read_to_end(opened) == b""


def test_neither_a_slow_body_nor_a_slow_answer_is_cut(
    address: str, gated_model: Any, encode_png: Any, make_pixels: Any
) -> None:
    body = encode_png(make_pixels(9, 9))
    head = (
        "POST /v1/models/gated/segment HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        f"Content-Type: image/png\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    with connected(address) as opened, ThreadPoolExecutor(1) as threads:
        opened.sendall(head.encode() + body[:20])
        time.sleep(HEAD_WITHIN_S * 1.5)
        opened.sendall(body[20:])
        answer = threads.submit(read_to_end, opened)
        assert gated_model.entered.acquire(timeout=WITHIN_S)
        time.sleep(HEAD_WITHIN_S * 1.5)
        gated_model.gate.set()
        assert b"200 OK" in answer.result()


def test_who_goes_with_several_requests_open_leaves_no_error(
    address: str,
    gated_model: Any,
    encode_png: Any,
    make_pixels: Any,
    caplog: pytest.LogCaptureFixture,
) -> None:
    body = encode_png(make_pixels(9, 9))
    head = (
        "POST /v1/models/gated/segment HTTP/1.1\r\nHost: x\r\n"
        f"Content-Type: image/png\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    with connected(address) as opened:
        opened.sendall(2 * (head.encode() + body))
        assert gated_model.entered.acquire(timeout=WITHIN_S)
    gated_model.gate.set()
    until_s = time.monotonic() + WITHIN_S
    while 'requests_total{format="png",model="gated",status="499"}' not in (
        metrics := httpx.get(f"{address}/metrics").text
    ):
        assert time.monotonic() < until_s
    assert 'longskip_requests_under_way{model="gated",version="1"} 0.0' in metrics
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="Linux only")
def test_an_answer_that_nobody_reads_is_given_up(
    address: str, gated_model: Any, encode_png: Any
) -> None:
    gated_model.gate.set()
    side = 1000  # 9 MB of answer, more than the system keeps for a client that does not read
    body = encode_png(np.zeros((side, side, 1), np.uint8))
    head = (
        "POST /v1/models/gated/segment?format=npz HTTP/1.1\r\nHost: x\r\n"
        f"Content-Type: image/png\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    with connected(address, receive_bytes=1 << 12) as opened:
        opened.sendall(head.encode() + body)
        start = opened.recv(1 << 10)
        assert b"200 OK" in start
        time.sleep(4)
        assert len(start + read_to_end(opened)) < 9 * side * side


def head_with(*, url: int = 0, header: int = 0, headers: int = 0) -> bytes:
    """Return a head padded by so many bytes in its address, in one header, in many headers."""
    many = "".join(f"X-{n}: {'x' * 90}\r\n" for n in range(headers // 100))
    text = (
        f"GET /v2/health/live?{'x' * url} HTTP/1.1\r\nHost: x\r\nX-Large: {'x' * header}\r\n{many}"
    )
    return text.encode() + b"\r\n"


@pytest.mark.parametrize("where", ["url", "header", "headers"])
def test_a_giant_head_is_refused_and_a_large_one_is_not(address: str, where: str) -> None:
    with connected(address) as opened:
        opened.sendall(head_with(**{where: 60_000}))
        assert read_one(opened).startswith(b"HTTP/1.1 200 OK")
        opened.sendall(head_with(**{where: 70_000}))
        answer = read_to_end(opened)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 431 Request Header Fields Too Large")
    told = json.loads(body)
    assert told["type"] == "urn:longskip:problem:head-too-large"
    assert told["detail"] == told["error"]


def test_a_head_without_end_is_cut_off(address: str) -> None:
    with connected(address) as opened:
        opened.sendall(WHOLE_HEAD[:-2])
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            send_headers(opened)


def send_headers(opened: socket.socket) -> None:
    for _ in range(100_000):
        opened.sendall(b"X-Large: " + b"x" * 10_000 + b"\r\n")
        time.sleep(0.001)


def test_what_is_no_http_is_told_so(address: str) -> None:
    with connected(address) as opened:
        opened.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")  # TLS
        answer = read_to_end(opened)
    assert answer.startswith(b"HTTP/1.1 400 Bad Request")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]


def test_a_bad_head_behind_a_request_under_way_ends_both(
    address: str, gated_model: Any, encode_png: Any, make_pixels: Any
) -> None:
    body = encode_png(make_pixels(9, 9))
    head = (
        f"POST /v1/models/gated/segment HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    with connected(address) as opened:
        opened.sendall(head.encode() + body)
        assert gated_model.entered.acquire(timeout=WITHIN_S)
        opened.sendall(head_with(header=70_000))
        assert b" 431 " in read_to_end(opened)
        gated_model.gate.set()
    with connected(address) as opened:
        opened.sendall(WHOLE_HEAD)
        assert b"200 OK" in read_one(opened)


@pytest.mark.parametrize("sent", [WHOLE_HEAD, HALF_AN_UPLOAD])
def test_a_connection_that_ended_is_let_go_without_the_collector(
    address: str, sent: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thousand that end together would leave their bodies, and 14 MB of small objects."""
    made = list[weakref.ref[Connection]]()
    connection_made = Connection.connection_made

    def note(self: Connection, transport: asyncio.Transport) -> None:
        made.append(weakref.ref(self))
        connection_made(self, transport)

    monkeypatch.setattr(Connection, "connection_made", note)
    gc.disable()
    try:
        with connected(address) as opened:
            opened.sendall(sent)
            if sent is WHOLE_HEAD:
                assert read_one(opened).startswith(b"HTTP/1.1 200 OK")
            else:
                time.sleep(0.2)
        until_s = time.monotonic() + WITHIN_S
        while made[0]() is not None and time.monotonic() < until_s:
            time.sleep(0.05)
        assert made[0]() is None
    finally:
        gc.enable()
