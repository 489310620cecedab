"""Hostile and broken files: a clear answer, a living process, little memory."""

import csv
from pathlib import Path
from typing import Any

import httpx
import pytest

MEMORY_LIMIT_MB = 1000


@pytest.mark.shared
@pytest.mark.slow
def test_every_hostile_file_gets_an_answer(
    service: Any, client: httpx.Client, shared_data: Path
) -> None:
    folder = shared_data / "hostile"
    with (folder / "MANIFEST.csv").open() as manifest:
        files = [row["file"] for row in csv.DictReader(manifest)]
    assert len(files) == 263
    statuses = {}
    for name in files:
        encoded = (folder / name).read_bytes()
        answer = client.post("/v1/models/colour/segment?format=json", content=encoded)
        statuses[name] = answer.status_code
        if answer.status_code == 200:
            assert answer.json()["size"]
        else:
            assert 400 <= answer.status_code < 500, (name, answer.text)
            assert answer.headers["content-type"] == "application/problem+json", name
            assert answer.json()["detail"], name
    assert client.get("/v2/health/live").status_code == 200
    assert service.process.poll() is None
    assert service.peak_memory_mb < MEMORY_LIMIT_MB
    accepted = [name for name in files if statuses[name] == 200]
    # The valid PNGs of the suite at least are answered: not everything is turned away.
    assert len(accepted) >= 60
