"""What the images are made of, read as text, and the scripts of docker/ as modules."""

import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

from service.app import create_app
from service.settings import Settings


@pytest.fixture(scope="session")
def compose(repository_root: Path) -> dict[str, Any]:
    """The compose file, its anchors resolved."""
    loaded: dict[str, Any] = yaml.safe_load((repository_root / "docker-compose.yml").read_text())
    return loaded


@pytest.fixture(scope="session")
def locked(repository_root: Path) -> Callable[[str], dict[str, set[str]]]:
    """Read a lock: package name -> the versions that it may install."""

    def read(name: str) -> dict[str, set[str]]:
        versions: dict[str, set[str]] = {}
        for line in (repository_root / name).read_text().splitlines():
            if "==" in line and line[0].isalpha():
                package, version = line.split(";")[0].rstrip("\\ ").split("==")
                versions.setdefault(package, set()).add(version)
        return versions

    return read


@pytest.fixture(scope="session")
def exposed(
    tmp_path_factory: pytest.TempPathFactory, build_threshold_model: Callable[..., Path]
) -> dict[str, set[str]]:
    """What a running service's /metrics tells: name of a series -> names of its labels."""
    path = tmp_path_factory.mktemp("models") / "grey" / "1" / "model.onnx"
    build_threshold_model(path, name="grey")
    settings = Settings(models=path.parents[2], reload=False, threads=1)
    with TestClient(create_app(settings)) as client:
        image = cv2.imencode(".png", np.zeros((8, 8), np.uint8))[1].tobytes()
        url = "/v1/models/grey/segment"
        assert client.post(url, content=image).status_code == 200
        assert client.post(url, content=b"no image").status_code == 415
        text = client.get("/metrics").text
    series: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            series.setdefault(sample.name, set()).update(sample.labels)
    return series


@pytest.fixture(scope="session")
def engine_module(repository_root: Path) -> Iterator[ModuleType]:
    """docker/engine.py, which is a script's neighbour and in no package."""
    spec = importlib.util.spec_from_file_location(
        "longskip_docker_engine", repository_root / "docker" / "engine.py"
    )
    if spec is None or spec.loader is None:
        raise FileNotFoundError("docker/engine.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]
