"""What docker/ray/ adds around the app; docker/ray/try_replicas.py tries ray[serve] itself."""

import ast
import asyncio
import re
import sys
import threading
import time
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest
import uvicorn
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from starlette.responses import PlainTextResponse

from service.app import create_app
from service.client import Client
from service.settings import Settings


@pytest.fixture(scope="module")
def ray_folder(repository_root: Path) -> Iterator[Path]:
    """The folder's modules import each other by their bare names."""
    folder = repository_root / "docker" / "ray"
    sys.path.insert(0, str(folder))
    yield folder
    sys.path.remove(str(folder))
    for name in ("again", "merge"):
        sys.modules.pop(name, None)


@pytest.fixture
def again(ray_folder: Path) -> ModuleType:
    return import_module("again")


@pytest.fixture
def merge(ray_folder: Path) -> ModuleType:
    return import_module("merge")


def _exposition(asked: int) -> bytes:
    registry = CollectorRegistry()
    Counter("asked", "Asked.", ("kind",), registry=registry).labels("a").inc(asked)
    Gauge("held", "Held.", registry=registry).set(asked / 2)
    Histogram("took_seconds", "Took.", buckets=(1, 2), registry=registry).observe(asked)
    return generate_latest(registry)


def test_merging_keeps_every_sample_and_says_whose_it_is(merge: ModuleType) -> None:
    told = {"one": _exposition(1), "two": _exposition(2)}
    merged = list(text_string_to_metric_families(merge.merge_expositions(told).decode()))
    names = [family.name for family in merged]
    assert sorted(names) == sorted(set(names))
    for replica, text in told.items():
        own = [
            sample
            for family in merged
            for sample in family.samples
            if sample.labels["replica"] == replica
        ]
        expected = [s for f in text_string_to_metric_families(text.decode()) for s in f.samples]
        assert [(s.name, s.value) for s in own] == [(s.name, s.value) for s in expected]
        for mine, theirs in zip(own, expected, strict=True):
            assert mine.labels == {**theirs.labels, "replica": replica}
    assert {family.name: family.type for family in merged} == {
        "asked": "counter",
        "held": "gauge",
        "took_seconds": "histogram",
    }


def _ask(app: Any) -> httpx.Response:
    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://proxy") as client:
            return await client.post("/v1/models/m/segment")

    return asyncio.run(ask())


async def _silent(scope: Any, receive: Any, send: Any) -> None:
    """As Ray's proxy where a replica died: it returns and has said nothing."""


def test_a_request_that_nobody_answered_is_503_come_again(again: ModuleType) -> None:
    answer = _ask(again.SayComeAgain(_silent))
    assert answer.status_code == 503
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["type"] == "urn:longskip:problem:replica-lost"
    assert answer.headers["retry-after"] == "1"


def test_the_services_client_asks_again_by_itself(again: ModuleType) -> None:
    told = {"Model": "m", "Version": "1", "Sha256": "0", "Provider": "p", "Precision": "fp32"}
    headers = {f"X-Longskip-{name}": value for name, value in (*told.items(), ("Request-Id", "r"))}
    asked = 0

    async def dies_once(scope: Any, receive: Any, send: Any) -> None:
        nonlocal asked
        asked += 1
        if asked > 1:
            await PlainTextResponse("mask", headers=headers)(scope, receive, send)

    config = uvicorn.Config(
        again.SayComeAgain(dies_once), port=0, lifespan="off", log_config=None, access_log=False
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        with Client(f"http://127.0.0.1:{port}") as client:
            assert client.segment(b"image", model="m").content == b"mask"
        assert asked == 2
    finally:
        server.should_exit = True
        thread.join()


def test_rays_own_503_says_when_and_the_services_stays_as_it_is(again: ModuleType) -> None:
    rays = _ask(again.SayComeAgain(PlainTextResponse("no replica", 503)))
    assert rays.headers["retry-after"] == "1"
    named = {"X-Longskip-Request-Id": "r"}
    ours = _ask(again.SayComeAgain(PlainTextResponse("failed its proof", 503, headers=named)))
    assert "retry-after" not in ours.headers
    good = _ask(again.SayComeAgain(PlainTextResponse("mask")))
    assert (good.status_code, good.text) == (200, "mask")


def test_what_ray_is_told_by_name_is_there(ray_folder: Path, again: ModuleType) -> None:
    (named,) = {
        path
        for file in ("serve_app.py", "try_replicas.py")
        for path in re.findall(r"\bagain:(\w+)", (ray_folder / file).read_text())
    }
    assert [layer.cls for layer in getattr(again, named)()] == [again.SayComeAgain]


def test_the_routes_that_are_taken_over_are_the_apps(ray_folder: Path, tmp_path: Path) -> None:
    tree = ast.parse((ray_folder / "serve_app.py").read_text())
    taken = {
        (decorator.func.attr, decorator.args[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.AsyncFunctionDef)
        for decorator in node.decorator_list
        if isinstance(decorator, ast.Call)
        and isinstance(decorator.func, ast.Attribute)
        and isinstance(decorator.args[0], ast.Constant)
    }
    assert len(taken) == 3
    paths = create_app(Settings(models=tmp_path)).openapi()["paths"]
    assert all(method in paths[path] for method, path in taken)


def test_ray_is_pinned(ray_folder: Path) -> None:
    assert re.search(
        r"^ray\[serve\]==\d+\.\d+\.\d+$", (ray_folder / "requirements.txt").read_text(), re.M
    )
