"""What .dockerignore lets through, and what the Dockerfiles copy of it."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

DOCKERFILES = ("service.Dockerfile", "training.Dockerfile")
ROOMS = {
    "service.Dockerfile": {"imaging", "contract", "service"},
    "training.Dockerfile": {"imaging", "contract", "service", "training"},
}


def copied(dockerfile: Path) -> set[str]:
    """Sources of COPY that come from the build context."""
    lines = re.findall(r"^COPY (?!--from)(\S+) \S+$", dockerfile.read_text(), re.MULTILINE)
    return set(lines)


@pytest.mark.parametrize("name", DOCKERFILES)
def test_copies_only_what_the_context_holds(repository_root: Path, name: str) -> None:
    allowed = [
        line.removeprefix("!")
        for line in (repository_root / ".dockerignore").read_text().splitlines()
        if line.startswith("!")
    ]
    sources = {
        source.replace("${DEVICE}", device)
        for source in copied(repository_root / "docker" / name)
        for device in ("cpu", "gpu")
    }
    for source in sources:
        assert (repository_root / source).exists()
        assert any(Path(source).match(pattern) for pattern in allowed), source


@pytest.mark.parametrize("name", DOCKERFILES)
def test_copies_exactly_the_rooms_that_it_runs(repository_root: Path, name: str) -> None:
    folders = {source for source in copied(repository_root / "docker" / name) if "." not in source}
    assert folders == ROOMS[name]


@pytest.mark.parametrize("name", DOCKERFILES)
def test_ends_as_an_unprivileged_user_without_a_shell_between(
    repository_root: Path, name: str
) -> None:
    lines = (repository_root / "docker" / name).read_text().splitlines()
    last_stage = lines[max(i for i, line in enumerate(lines) if line.startswith("FROM")) :]
    assert "USER 10001:10001" in last_stage
    commands = [line for line in last_stage if line.startswith(("CMD", "ENTRYPOINT"))]
    assert commands
    assert all(re.fullmatch(r'(CMD|ENTRYPOINT) \["[^]]+"\]', line) for line in commands)


@pytest.mark.parametrize("name", DOCKERFILES)
def test_needs_no_registry_but_for_its_base(repository_root: Path, name: str) -> None:
    text = (repository_root / "docker" / name).read_text()
    stages = set(re.findall(r"^FROM \S+ AS (\w+)$", text, re.MULTILINE))
    images = set(re.findall(r"^FROM (\S+)", text, re.MULTILINE)) - stages
    assert images == {"${BASE_IMAGE}"}
    assert "# syntax=" not in text


Locked = Callable[[str], dict[str, set[str]]]


def test_the_cpu_lock_brings_no_gpu_library(locked: Locked) -> None:
    packages = locked("requirements-cpu.lock")
    assert "onnxruntime" in packages
    assert not [n for n in packages if n.startswith("nvidia") or n in ("onnxruntime-gpu", "torch")]


def test_the_gpu_lock_brings_cuda_without_torch(locked: Locked) -> None:
    packages = locked("requirements-gpu.lock")
    assert {"onnxruntime-gpu", "nvidia-cudnn-cu13", "nvidia-cublas"} <= set(packages)
    assert "torch" not in packages


@pytest.mark.parametrize("name", ["requirements-cpu.lock", "requirements-gpu.lock"])
def test_a_service_is_locked_to_the_versions_that_are_tested(locked: Locked, name: str) -> None:
    tested = locked("requirements.lock")
    packages = locked(name)
    assert len(packages) > 20
    assert {package: versions for package, versions in packages.items()} == {
        package: tested[package] for package in packages
    }


@pytest.mark.parametrize("name", ["requirements-cpu.lock", "requirements-gpu.lock"])
def test_a_lock_names_hashes_and_no_index(repository_root: Path, name: str, locked: Locked) -> None:
    text = (repository_root / name).read_text()
    assert text.count("--hash=sha256:") >= len(locked(name))
    assert "://" not in text
