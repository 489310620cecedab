"""API keys: who gets in, who does not, and that no key is found again."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from service.errors import KeysInvalid
from service.keys import Keys, main


def make_key(name: str, *scopes: str, capsys: pytest.CaptureFixture[str]) -> tuple[str, Any]:
    assert main([name, "--scopes", *scopes]) == 0
    lines = capsys.readouterr().out.splitlines()
    return lines[1].strip(), yaml.safe_load("\n".join(lines[3:]))[0]


def test_a_key_is_found_and_no_other(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    secret, entry = make_key("pacs", "infer", capsys=capsys)
    other, _ = make_key("other", "infer", capsys=capsys)
    path = tmp_path / "keys.yaml"
    path.write_text(yaml.safe_dump({"keys": [entry]}))
    keys = Keys.read(path)
    assert secret not in path.read_text()
    found = keys.find(secret)
    assert found is not None
    assert (found.name, found.scopes) == ("pacs", {"infer"})
    for offered in (other, "", entry["sha256"], secret[:-1], secret + "é"):
        assert keys.find(offered) is None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no file of keys"),
        ("keys: 3", "keys"),
        ("keys: [{name: a b, sha256: x, scopes: [infer]}]", r"keys\.0\.name"),
        ("keys: [{name: a, sha256: x, scopes: []}]", r"keys\.0\.scopes"),
        (f"keys: [{{name: a, sha256: {'a' * 64}, scopes: [root]}}]", r"keys\.0\.scopes"),
        ("{", "cannot be read"),
        (
            "keys: [" + ", ".join([f"{{name: a, sha256: {'a' * 64}, scopes: [infer]}}"] * 2) + "]",
            "two keys of one name",
        ),
    ],
)
def test_a_wrong_file_is_told(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "keys.yaml"
    path.write_text(text)
    with pytest.raises(KeysInvalid, match=reason):
        Keys.read(path)


def test_the_service_does_not_start_with_a_wrong_file(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "service", "--port", "0", "--keys", str(tmp_path / "none.yaml")],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode == 5
    assert "not started" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.fixture
def guarded(
    start_service: Any, models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Iterator[tuple[Any, httpx.Client, str, str]]:
    """A service with two keys: one asks, one loads."""
    asks, asking = make_key("asks", "infer", capsys=capsys)
    loads, loading = make_key("loads", "admin", capsys=capsys)
    path = tmp_path / "keys.yaml"
    path.write_text(yaml.safe_dump({"keys": [asking, loading]}))
    with (
        start_service(models=models, keys=path) as service,
        httpx.Client(base_url=service.address, timeout=30, trust_env=False) as client,
    ):
        yield service, client, asks, loads


def test_keys_open_what_they_are_for_and_are_found_nowhere(
    guarded: Any, make_pixels: Any, encode_png: Any
) -> None:
    service, client, asks, loads = guarded
    image = {"file": ("a.png", encode_png(make_pixels(8, 8)))}
    segment, unload = "/v1/models/grey/segment", "/v2/repository/models/grey/unload"

    def bearer(key: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {key}"}

    for path in ("/", "/v2/health/live", "/v2/health/ready", "/page/page.css"):
        assert client.get(path).status_code == 200, path
    for headers in ({}, bearer("wrong"), {"Authorization": "Bearer"}, {"Authorization": asks}):
        for path in ("/v1/models", "/metrics", "/openapi.json", "/v2/models/grey"):
            refused = client.get(path, headers=headers)
            assert refused.status_code == 401
            assert refused.headers["www-authenticate"] == "Bearer"
        assert client.post(segment, files=image, headers=headers).status_code == 401
        assert client.post(unload, headers=headers).status_code == 401
    for other in (asks, loads, "wrong"):
        for order in ((asks, other), (other, asks)):
            twice = [("Authorization", f"Bearer {key}") for key in order]
            refused = client.post(segment, files=image, headers=twice)
            assert refused.status_code == 401
            assert "2 Authorization headers" in refused.json()["detail"]
    assert client.post(segment, files=image, headers=bearer(asks)).status_code == 200
    assert client.post(segment, files=image, headers=bearer(loads)).status_code == 403
    assert client.post(unload, headers=bearer(asks)).status_code == 403
    assert client.post(unload, headers=bearer(loads)).status_code == 200
    assert client.post(segment, files=image, headers=bearer(asks)).status_code == 503
    metrics = client.get("/metrics", headers=bearer(asks)).text
    log = service.log.read_text()
    for secret in (asks, loads):
        assert secret not in log + metrics
        assert secret[10:30] not in log + metrics
    assert '"caller": "asks"' in log
