"""What the images are made of, read as text, and the scripts of docker/ as modules."""

import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml


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
