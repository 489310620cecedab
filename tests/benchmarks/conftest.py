"""The benches are run as a person runs them: as processes, from the root."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

RunBench = Callable[..., dict[str, Any]]


@pytest.fixture
def run_bench(repository_root: Path, tmp_path: Path) -> RunBench:
    """Run one bench and return its record."""

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
