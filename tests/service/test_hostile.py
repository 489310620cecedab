"""Hostile and broken files: a clear answer, a living process, little memory."""

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.client import Client, ServiceError

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
    _each_has_the_same_outcome_among_others(service.address, folder, statuses)


def _each_has_the_same_outcome_among_others(
    address: str, folder: Path, statuses: Mapping[str, int]
) -> None:
    sizes = {name: (folder / name).stat().st_size for name in statuses}
    small = sorted((name for name in statuses if sizes[name] < 20_000), key=sizes.__getitem__)
    with Client(address) as client:
        images = [(folder / name).read_bytes() for name in small]
        outcomes = list(client.segment_many(images, model="colour", at_once=60, format="json"))
    for name, outcome in zip(small, outcomes, strict=True):
        status = outcome.status if isinstance(outcome, ServiceError) else 200
        if sizes[name]:  # an empty body is refused before anybody looks for an image in it
            assert status == statuses[name], name
    assert len(small) > 100
