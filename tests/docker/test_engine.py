"""Which client is taken, and what happens where there is no engine. Clients are shell scripts."""

import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

WITHOUT_BUILDX = 'case "$1" in --version) echo "Docker version 28.2.2";; *) exit 1;; esac'
WITH_BUILDX = 'case "$1" in --version) echo "Docker version 28.2.2";; *) exit 0;; esac'
BEFORE_BUILDX = 'case "$1" in --version) echo "Docker version 20.10.24+dfsg1";; *) exit 1;; esac'


def client(folder: Path, script: str) -> Path:
    folder.mkdir()
    path = folder / "docker"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def search_path(*clients: Path) -> str:
    return os.pathsep.join(str(path.parent) for path in clients)


@pytest.mark.parametrize("usable", [WITH_BUILDX, BEFORE_BUILDX])
def test_takes_the_first_client_that_can_build(
    tmp_path: Path, engine_module: ModuleType, usable: str
) -> None:
    without = client(tmp_path / "a", WITHOUT_BUILDX)
    able = client(tmp_path / "b", usable)
    other = client(tmp_path / "c", WITH_BUILDX)
    assert engine_module.find_client(search_path(without, able, other)) == str(able)


def test_says_what_the_clients_lack(tmp_path: Path, engine_module: ModuleType) -> None:
    without = client(tmp_path / "a", WITHOUT_BUILDX)
    with pytest.raises(engine_module.NoEngine, match="has no plugin buildx"):
        engine_module.find_client(search_path(without))


def test_says_that_there_is_no_client(tmp_path: Path, engine_module: ModuleType) -> None:
    with pytest.raises(engine_module.NoEngine, match="no docker on the PATH"):
        engine_module.find_client(str(tmp_path))


def test_lends_settings_and_certificates_as_secrets(
    tmp_path: Path, engine_module: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, certificates = tmp_path / "pip.conf", tmp_path / "ca.pem"
    settings.touch()
    certificates.touch()
    monkeypatch.setenv("PIP_CONFIG_FILE", str(settings))
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates))
    assert engine_module.build_secrets() == [
        "--secret", f"id=ca_certificates,src={certificates}",
        "--secret", f"id=pip_conf,src={settings}",
    ]  # fmt: skip


@pytest.mark.slow
def test_without_an_engine_the_test_says_so_and_skips(
    tmp_path: Path, repository_root: Path
) -> None:
    able = client(tmp_path / "a", 'echo "Docker version 20.10.24"; [ "$1" = --version ]')
    tried = subprocess.run(
        [sys.executable, "docker/try_image.py"],
        cwd=repository_root,
        env=os.environ | {"PATH": f"{able.parent}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert tried.returncode == 77
    assert "docker-test skipped: no engine answers" in tried.stderr
    assert "docker/local-engine.sh make docker-test" in tried.stderr
