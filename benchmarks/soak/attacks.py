"""Clients that mean harm, on plain sockets: slow heads, half bodies, huge heads, unread answers."""

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

Address = tuple[str, int]
HALF_OPEN_BATCH = 100


@contextmanager
def half_open_uploads(address: Address, model: str, count: int) -> Iterator[int]:
    """Hold uploads open of which a few bytes came; yield how many there are."""
    head = (
        f"POST /v1/models/{model}/segment HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\n"
        "Content-Length: 100000\r\n\r\n"
    ).encode()
    with ExitStack() as held:
        opened = 0
        for _ in range(count):
            connection = held.enter_context(socket.create_connection(address, timeout=30))
            connection.sendall(head + b"\x89PNG")
            opened += 1
        yield opened


@contextmanager
def slow_heads(address: Address, count: int) -> Iterator[int]:
    """Send heads drop by drop; yield how many connections try."""
    stop = threading.Event()
    with ExitStack() as held:
        connections = [
            held.enter_context(socket.create_connection(address, timeout=30)) for _ in range(count)
        ]

        def drip() -> None:
            for connection in connections:
                connection.sendall(b"GET /v2/health/live HTTP/1.1\r\nX-Slow: ")
            alive = list(connections)
            while alive and not stop.wait(0.5):
                for connection in list(alive):
                    try:
                        connection.sendall(b"x")
                    except OSError:  # the service has had enough
                        alive.remove(connection)

        thread = threading.Thread(target=drip, daemon=True)
        thread.start()
        try:
            yield count
        finally:
            stop.set()
            thread.join()


@contextmanager
def unread_answers(address: Address, model: str, image: bytes, count: int) -> Iterator[int]:
    """Ask for large answers and read nothing of them; yield how many do so."""
    head = (
        f"POST /v1/models/{model}/segment?format=npz HTTP/1.1\r\nHost: x\r\n"
        f"Content-Type: image/png\r\nContent-Length: {len(image)}\r\n\r\n"
    ).encode()
    with ExitStack() as held:
        for _ in range(count):
            connection = held.enter_context(socket.socket())
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 12)
            connection.settimeout(30)
            connection.connect(address)
            connection.sendall(head + image)
        yield count


def giant_head(address: Address, size_bytes: int) -> bytes:
    """Send a head of so many bytes and return what comes back: a status line, or nothing."""
    with socket.create_connection(address, timeout=30) as connection:
        try:
            connection.sendall(b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n")
            line = b"X-Giant: " + b"x" * 8000 + b"\r\n"
            for _ in range(size_bytes // len(line)):
                connection.sendall(line)
            connection.sendall(b"\r\n")
        except OSError:
            pass  # cut off while it sends; the answer may have come all the same
        try:
            return connection.recv(1 << 16).split(b"\r\n", 1)[0]
        except OSError:
            return b""
