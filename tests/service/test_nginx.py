"""A real nginx with docker/nginx/longskip.conf before a real service; skips where there is none."""

import os
import re
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

pytestmark = pytest.mark.slow

START_TIMEOUT_S = 20.0
PREFIX = "/longskip"


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    return port


@pytest.fixture(scope="module")
def behind_nginx(
    start_service: Any,
    models: Path,
    repository_root: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[Any, httpx.Client, Path]]:
    """The service, a client of the proxy before it, and the folder of the proxy's logs."""
    nginx, openssl = (
        shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin"),
        shutil.which("openssl"),
    )
    if nginx is None or openssl is None:
        pytest.skip("there is no nginx or no openssl; Debian's package nginx-light has the first")
    folder = tmp_path_factory.mktemp("nginx")
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    named = ("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost")
    files = ("-keyout", str(key), "-out", str(certificate))
    subprocess.run(
        [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *named, *files],
        check=True,
        capture_output=True,
    )
    port = _free_port()
    with start_service(models=models, root_path=PREFIX) as service:
        own = {
            r"/etc/ssl/private/[\w.]+\.key": str(key),
            r"/etc/ssl/[\w.]+\.pem": str(certificate),
            r"listen 443": f"listen 127.0.0.1:{port}",
            r"server 127\.0\.0\.1:8000": f"server {httpx.URL(service.address).netloc.decode()}",
            r"segment\.example\.org": "localhost",
            r"/var/log/nginx": str(folder),
        }
        site = (repository_root / "docker" / "nginx" / "longskip.conf").read_text()
        for pattern, replacement in own.items():
            site, count = re.subn(pattern, replacement, site)
            assert count >= 1, pattern
        (folder / "site.conf").write_text(site)
        spools = "".join(
            f"{kind}_temp_path {folder / kind};"
            for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        (folder / "nginx.conf").write_text(
            f"daemon off; pid {folder / 'pid'}; error_log stderr crit; events {{}} "
            f"http {{ {spools} access_log {folder / 'access.log'}; "
            f"include {folder / 'site.conf'}; }}"
        )
        process = subprocess.Popen(
            [nginx, "-e", "stderr", "-p", str(folder), "-c", str(folder / "nginx.conf")],
            stderr=subprocess.PIPE,
        )
        try:
            _wait_for(port, process)
            context = ssl.create_default_context(cafile=str(certificate))
            url = f"https://localhost:{port}"
            with httpx.Client(base_url=url, verify=context, timeout=30, trust_env=False) as client:
                yield service, client, folder
        finally:
            process.terminate()
            process.communicate(timeout=20)


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < until and process.poll() is None:
        with socket.socket() as tried:
            if tried.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    process.terminate()
    raise RuntimeError(f"nginx did not start: {process.communicate(timeout=20)[1].decode()}")


def test_an_answer_by_tls_is_the_services(
    behind_nginx: Any, make_pixels: Any, encode_png: Any
) -> None:
    service, client, _ = behind_nginx
    image = encode_png(make_pixels(40, 50))
    by_tls = client.post(f"{PREFIX}/v1/models/grey/segment", content=image)
    direct = httpx.post(
        f"{service.address.removesuffix(PREFIX)}/v1/models/grey/segment",
        content=image,
        trust_env=False,
    )
    assert by_tls.status_code == direct.status_code == 200
    assert by_tls.content == direct.content
    assert by_tls.headers["x-longskip-sha256"] == direct.headers["x-longskip-sha256"]
    assert client.get(f"{PREFIX}/v1/nothing").json()["type"] == "urn:longskip:problem:not-found"


def test_the_page_and_its_files_lie_below_the_prefix(behind_nginx: Any) -> None:
    _, client, _ = behind_nginx
    moved = client.get(PREFIX)
    assert moved.status_code == 301
    assert moved.headers["location"] == f"{client.base_url}{PREFIX}/"
    page = client.get(f"{PREFIX}/")
    (script,) = re.findall(r'src="([^"]+)"', page.text)
    assert client.get(f"{PREFIX}/{script}").headers["content-type"].startswith("text/javascript")
    assert client.get(f"{PREFIX}/v1/models/").status_code == 404


def test_a_body_past_the_limit_gets_the_services_own_words(behind_nginx: Any) -> None:
    _, client, _ = behind_nginx
    refused = client.post(f"{PREFIX}/v1/models/grey/segment", content=b"\0" * 65_000_000)
    assert refused.status_code == 413
    assert refused.json()["type"] == "urn:longskip:problem:body-too-large"


def test_nginx_tells_no_one_who_asked_for_what(behind_nginx: Any) -> None:
    _, client, folder = behind_nginx
    client.get(f"{PREFIX}/v1/models/Doe_Jane_19700101")
    for name in ("access.log", "longskip-error.log"):
        assert (folder / name).read_bytes() == b""
