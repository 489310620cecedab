"""The benches are run by their command lines, from the root."""

import importlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

RunBench = Callable[..., dict[str, Any]]


@pytest.fixture
def run_bench_here(
    repository_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> RunBench:
    """Run one bench in this process, which has imported torch already, and return its record."""

    def run(bench: str, *arguments: str) -> dict[str, Any]:
        monkeypatch.chdir(repository_root)
        out = tmp_path / f"{bench}.json"
        module = importlib.import_module(f"benchmarks.{bench}")
        assert module.main([*arguments, "--out", str(out)]) == 0
        record: dict[str, Any] = json.loads(out.read_text())
        return record

    return run


@pytest.fixture
def run_bench(repository_root: Path, tmp_path: Path) -> RunBench:
    """Run one bench as a person does, as a process, and return its record."""

    def run(bench: str, *arguments: str) -> dict[str, Any]:
        out = tmp_path / f"{bench}.json"
        finished = subprocess.run(
            [sys.executable, "-m", f"benchmarks.{bench}", *arguments, "--out", str(out)],
            cwd=repository_root,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert finished.returncode == 0, finished.stdout + finished.stderr
        record: dict[str, Any] = json.loads(out.read_text())
        return record

    return run
