"""The service keeps what its own OpenAPI text says, and refuses what that forbids."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

CONFIG = Path(__file__).with_name("schemathesis.toml")
EXAMPLES_PER_OPERATION = 3


@pytest.fixture(scope="module")
def shipped(start_service: Any, repository_root: Path) -> Any:
    """The shipped models, which anybody here may load and unload."""
    with start_service(models=repository_root / "models", dev=True, reload=False) as service:
        yield service


@pytest.mark.slow
def test_schemathesis_finds_nothing(shipped: Any, tmp_path: Path) -> None:
    ended = subprocess.run(
        [
            *(Path(sys.executable).with_name("schemathesis"), "--config-file", CONFIG),
            *("run", f"{shipped.address}/openapi.json", "--checks", "all"),
            # The fourth phase, stateful, takes a third of the time; `make fuzz` has it.
            *("--phases", "examples,coverage,fuzzing"),
            *("--continue-on-failure", "--no-shrink", "--generation-database", "none"),
            *("--seed", "5", "--max-examples", str(EXAMPLES_PER_OPERATION)),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "Tested: 0" not in ended.stdout


def test_every_answer_says_its_request_id_and_who_may_ask(client: httpx.Client) -> None:
    text = client.get("/openapi.json").json()
    assert text["components"]["securitySchemes"].keys() == {"key"}
    for path, methods in text["paths"].items():
        for operation in methods.values():
            asked = "security" in operation
            assert asked == (not path.startswith("/v2/health")), path
            assert ("401" in operation["responses"]) == asked
            for answer in operation["responses"].values():
                assert {"X-Longskip-Request-Id", "Server-Timing"} <= answer["headers"].keys()
