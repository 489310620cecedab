"""``/metrics``: what the guide's table says is what a running service tells, and it is right."""

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar, get_args, get_origin, get_type_hints

import httpx
import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from contract.version import __version__
from service.gauges import STATES, memory_limit_bytes
from service.repository.repository import Entry

OURS = "longskip_"
# Of a histogram's samples, beside those that the table names.
BUCKET = {"le"}


def families_of(client: httpx.Client) -> dict[str, Metric]:
    """All of the service's own families, by the name that queries use."""
    families = text_string_to_metric_families(client.get("/metrics").text)
    named = {f.name + ("_total" if f.type == "counter" else ""): f for f in families}
    return {name: family for name, family in named.items() if name.startswith(OURS)}


def value_of(client: httpx.Client, name: str, **labels: str) -> float:
    """One sample; 0 where it was never counted."""
    for family in families_of(client).values():
        for sample in family.samples:
            if sample.name == name and sample.labels == labels:
                return sample.value
    return 0.0


@pytest.fixture
def asked(client: httpx.Client, segment: Any, make_pixels: Any, encode_png: Any) -> httpx.Client:
    """A service that was asked at least one thing of each kind, so that each metric has samples."""
    image = encode_png(make_pixels(8, 8))
    assert segment("grey", image).status_code == 200
    assert segment("five", image).status_code == 422
    return client


def _table(repository_root: Path) -> Iterator[tuple[str, str, set[str]]]:
    text = (repository_root / "docs" / "deploy.md").read_text()
    for name, kind, labels in re.findall(
        r"^\| `(longskip_\w+)` \| (\w+) \| ([^|]*)\|", text, re.MULTILINE
    ):
        yield name, kind, set(re.findall(r"`(\w+)`", labels))


def test_the_guides_table_is_the_exposition(asked: httpx.Client, repository_root: Path) -> None:
    exposed = {}
    for name, family in families_of(asked).items():
        labels = [set(sample.labels) for sample in family.samples]
        assert labels, f"{name} has no sample"
        exposed[name] = (family.type, set().union(*labels) - BUCKET)
    assert {name: (kind, labels) for name, kind, labels in _table(repository_root)} == exposed


def test_names_in_the_guide_to_serving_are_exposed(
    asked: httpx.Client, repository_root: Path
) -> None:
    text = (repository_root / "docs" / "guide" / "serve.md").read_text()
    named = set(re.findall(r"`(longskip_[a-z_]+)`", text))
    assert named
    assert named <= set(families_of(asked))


def test_names_follow_the_conventions(asked: httpx.Client) -> None:
    for name, family in families_of(asked).items():
        assert re.fullmatch(r"longskip(_[a-z0-9]+)+", name)
        assert family.documentation.endswith(".")
        assert name.endswith("_total") == (family.type == "counter")
        if name.endswith("_info"):
            assert {sample.value for sample in family.samples} == {1.0}


def test_each_stage_is_timed_by_model_and_version(
    asked: httpx.Client, segment: Any, make_pixels: Any, encode_png: Any
) -> None:
    stages = ("admit", "decode", "queue", "run", "encode")
    of = {"model": "grey", "version": "1"}

    def counts() -> list[float]:
        name = "longskip_stage_seconds_count"
        return [value_of(asked, name, stage=stage, **of) for stage in stages]

    before, batches = counts(), value_of(asked, "longskip_batch_images_count", **of)
    assert segment("grey", encode_png(make_pixels(8, 8))).status_code == 200
    assert counts() == [count + 1 for count in before]
    assert value_of(asked, "longskip_batch_images_count", **of) == batches + 1
    buckets = {
        float(sample.labels["le"])
        for sample in families_of(asked)["longskip_stage_seconds"].samples
        if "le" in sample.labels
    }
    assert max(buckets - {float("inf")}) == 60  # the default deadline


def test_versions_are_told_with_what_they_are(asked: httpx.Client) -> None:
    models = {model["name"]: model for model in asked.get("/v1/models").json()["models"]}
    families = families_of(asked)
    info = {s.labels["model"]: s.labels for s in families["longskip_model_info"].samples}
    grey = models["grey"]
    assert info["grey"]["precision"] == grey["precision"]
    assert info["grey"]["provider"] == grey["provider"]
    assert "rubbish" not in info
    states = {
        (s.labels["model"], s.labels["version"]): s.labels["state"]
        for s in families["longskip_model_state"].samples
        if s.value == 1
    }
    assert states["grey", "1"] == "ready"
    assert states["rubbish", "1"] == states["colour", "3"] == "failed"
    assert families["longskip_build_info"].samples[0].labels == {"version": __version__}
    assert value_of(asked, "longskip_ready") == 1


def test_every_state_of_a_version_is_told() -> None:
    kinds = [get_type_hints(kind)["state"] for kind in get_args(Entry)]
    literals = [get_args(kind)[0] if get_origin(kind) is ClassVar else kind for kind in kinds]
    assert {state for literal in literals for state in get_args(literal)} == set(STATES)


def test_no_label_holds_what_a_client_sent(asked: httpx.Client) -> None:
    before = {(s.name, *s.labels.values()) for f in families_of(asked).values() for s in f.samples}
    for turn in range(20):
        asked.post(f"/v1/models/made-up-{turn}/segment", params={"format": f"made-up-{turn}"})
        asked.get(f"/made-up-{turn}")
        asked.request(f"MADEUP{turn}", "/v1/models")
    after = {(s.name, *s.labels.values()) for f in families_of(asked).values() for s in f.samples}
    assert not [name for name in after - before if "made" in repr(name).lower()]
    assert len(after - before) < 20


def test_what_waits_and_what_is_held_is_told_while_it_lasts(
    serve_in_thread: Any, gated_model: Any, make_pixels: Any, encode_png: Any
) -> None:
    image = encode_png(make_pixels(400, 500))  # a small one would be decoded in its turn only
    of = {"model": "gated", "version": "1"}
    with (
        serve_in_thread([("gated", gated_model)], queue_size=7) as address,
        httpx.Client(base_url=address, timeout=60, trust_env=False) as client,
        ThreadPoolExecutor(2) as threads,
    ):

        def post() -> int:
            url = f"{address}/v1/models/gated/segment"
            return httpx.post(url, content=image, timeout=60).status_code

        assert value_of(client, "longskip_queue_oldest_seconds", **of) == 0
        under_way = [threads.submit(post)]
        assert gated_model.entered.acquire(timeout=30)
        under_way.append(threads.submit(post))
        while value_of(client, "longskip_queue_depth", **of) != 1:
            assert not any(answer.done() for answer in under_way)
        first_s = value_of(client, "longskip_queue_oldest_seconds", **of)
        assert first_s > 0
        assert value_of(client, "longskip_queue_oldest_seconds", **of) > first_s
        assert value_of(client, "longskip_requests_under_way", **of) == 2
        assert value_of(client, "longskip_requests_under_way_limit") == 7
        assert value_of(client, "longskip_decoded_pixels") == 2 * 400 * 500
        assert value_of(client, "longskip_decoded_pixels_limit") == 34e6
        gated_model.gate.set()
        assert [answer.result() for answer in under_way] == [200, 200]
        assert value_of(client, "longskip_requests_under_way", **of) == 0
        assert value_of(client, "longskip_decoded_pixels") == 0


def test_the_memory_limit_is_the_containers_or_the_machines(tmp_path: Path) -> None:
    second, first = tmp_path / "memory.max", tmp_path / "memory.limit_in_bytes"
    machine = memory_limit_bytes(())
    assert machine > 2**27
    assert memory_limit_bytes((second, first)) == machine
    first.write_text("209715200\n")
    assert memory_limit_bytes((second, first)) == 209715200
    first.write_text("9223372036854771712\n")  # what the first version calls no limit
    assert memory_limit_bytes((second, first)) == machine
    second.write_text("max\n")
    assert memory_limit_bytes((second,)) == machine
    second.write_text("104857600\n")
    assert memory_limit_bytes((second, first)) == 104857600
