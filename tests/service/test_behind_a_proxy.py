"""A path of its own behind a proxy, and pages of other origins, with and without keys."""

import hashlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from starlette.testclient import TestClient

from service.app import create_app
from service.page.routes import FILES, FOLDER
from service.settings import Settings

PREFIX = "/tool"
VIEWER, OTHER = "https://viewer.example", "https://other.example"
KEY = "longskip_key-of-the-viewer"


@pytest.fixture(scope="module")
def proxied(
    tmp_path_factory: pytest.TempPathFactory, build_threshold_model: Callable[..., Path]
) -> Iterator[TestClient]:
    """Asks as a proxy does that took the prefix off: uvicorn puts it before the path again."""
    folder = tmp_path_factory.mktemp("proxied")
    path = folder / "models" / "grey" / "1" / "model.onnx"
    build_threshold_model(path, name="grey")
    entry = {
        "name": "viewer",
        "sha256": hashlib.sha256(KEY.encode()).hexdigest(),
        "scopes": ["infer"],
    }
    keys = folder / "keys.yaml"
    keys.write_text(yaml.safe_dump({"keys": [entry]}))
    settings = Settings(
        models=folder / "models",
        keys=keys,
        root_path=PREFIX,
        cors_origins=(VIEWER,),
        reload=False,
        threads=1,
    )
    with TestClient(create_app(settings), root_path=PREFIX) as client:
        client.base_url = client.base_url.join(PREFIX)
        yield client


def _headers(**more: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {KEY}", **more}


def test_every_address_lies_below_the_prefix(proxied: TestClient) -> None:
    assert proxied.get("/v2/health/ready").json()["ready"] is True
    assert proxied.get("/v1/models", headers=_headers()).status_code == 200
    assert proxied.get("/").headers["content-type"].startswith("text/html")
    for name in FILES:
        assert proxied.get(f"/page/{name}").status_code == 200
    assert proxied.get("/openapi.json", headers=_headers()).json()["servers"] == [{"url": PREFIX}]
    assert proxied.get("/v2/nothing", headers=_headers()).json().keys() == {"error"}
    assert proxied.get("/v1/models").status_code == 401
    # Not sent on: where to, only the request's own host could say.
    other = proxied.get("/v1/models/", headers=_headers(), follow_redirects=False)
    assert other.status_code == 404


def test_the_prefix_opens_no_door_past_the_keys(proxied: TestClient) -> None:
    for path in (
        "/page/../v1/models",
        f"{PREFIX}/v1/models",
        "//v1/models",
        "/page/%2e%2e/v1/models",
    ):
        assert proxied.get(path).status_code in (401, 404), path
    unload = "/v2/repository/models/grey/unload"
    assert proxied.post(unload).status_code == 401
    assert proxied.post(unload, headers=_headers()).status_code == 403


def test_the_page_names_nothing_by_its_place_at_the_root() -> None:
    for name in ("index.html", *(name for name in FILES if name.endswith((".js", ".css")))):
        text = (FOLDER / name).read_text()
        assert not re.findall(r"""(?:href|src)="/|(?:fetch|URL)\(["'`]/|url\(/""", text), name


def test_a_preflight_needs_no_key_and_only_the_origins_named_pass(proxied: TestClient) -> None:
    asked = {
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,content-type",
    }
    passed = proxied.options("/v1/models/grey/segment", headers={"Origin": VIEWER, **asked})
    assert passed.status_code == 200
    assert passed.headers["access-control-allow-origin"] == VIEWER
    assert "POST" in passed.headers["access-control-allow-methods"]
    assert "authorization" in passed.headers["access-control-allow-headers"]
    assert "access-control-allow-credentials" not in passed.headers
    refused = proxied.options("/v1/models/grey/segment", headers={"Origin": OTHER, **asked})
    assert refused.status_code == 400
    assert "access-control-allow-origin" not in refused.headers
    verb = {"Origin": VIEWER, "Access-Control-Request-Method": "DELETE"}
    assert proxied.options("/v1/models", headers=verb).status_code == 400


def test_a_page_of_a_named_origin_can_read_answers_and_refusals(proxied: TestClient) -> None:
    for headers, status in ((_headers(Origin=VIEWER), 200), ({"Origin": VIEWER}, 401)):
        answer = proxied.get("/v1/models", headers=headers)
        assert answer.status_code == status
        assert answer.headers["access-control-allow-origin"] == VIEWER
        # What the answer's own headers say may be read, too: no cookies are in play.
        assert answer.headers["access-control-expose-headers"] == "*"
        assert "Origin" in answer.headers["vary"]
    other = proxied.get("/v1/models", headers=_headers(Origin=OTHER))
    assert "access-control-allow-origin" not in other.headers


def test_the_proxys_limits_leave_the_service_its_own_words(repository_root: Path) -> None:
    text = (repository_root / "docker" / "nginx" / "longskip.conf").read_text()
    fields = Settings.model_fields
    (body_mib,) = map(float, re.findall(r"client_max_body_size (\d+)m;", text))
    assert body_mib * 2**20 > fields["max_body_mb"].default * 1e6
    (read_s,) = map(float, re.findall(r"proxy_read_timeout (\d+)s;", text))
    assert read_s > fields["deadline_s"].default
    (port,) = map(int, re.findall(r"server 127\.0\.0\.1:(\d+);", text))
    assert port == fields["port"].default
    # Of a location and of proxy_pass alike, or the prefix is not taken off.
    assert re.search(r"location /longskip/ \{.*proxy_pass http://longskip/;", text, re.DOTALL)
