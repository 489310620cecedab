import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest


@contextmanager
def answering(status: int) -> Iterator[tuple[int, list[str]]]:
    """A server that answers every GET with one status; yields its port and the paths asked for."""
    paths: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            paths.append(self.path)
            self.send_response(status)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port, paths
        server.shutdown()
        thread.join()


def healthcheck(root: Path, port: int, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, root / "docker" / "healthcheck.py"],
        env=os.environ | {"LONGSKIP_PORT": str(port)} | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_is_content_with_a_ready_service(repository_root: Path) -> None:
    with answering(200) as (port, paths):
        assert healthcheck(repository_root, port).returncode == 0
    assert paths == ["/v2/health/ready"]


def test_asks_past_a_proxy(repository_root: Path) -> None:
    with answering(200) as (port, _):
        proxied = healthcheck(repository_root, port, http_proxy="http://127.0.0.1:9")
    assert proxied.returncode == 0


@pytest.mark.parametrize("status", [204, 404, 503])
def test_any_other_answer_is_not_ready(repository_root: Path, status: int) -> None:
    with answering(status) as (port, _):
        answer = healthcheck(repository_root, port)
    assert answer.returncode == 1
    assert f"status {status}" in answer.stderr


def test_no_answer_is_not_ready(repository_root: Path) -> None:
    with answering(200) as (port, _):
        pass
    answer = healthcheck(repository_root, port)
    assert answer.returncode == 1
    assert "no answer" in answer.stderr
