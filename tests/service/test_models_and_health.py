"""What is said of the models, and when the service calls itself ready."""

import json
from pathlib import Path
from typing import Any

import httpx

from contract.model import Model


def test_the_index_lists_good_and_broken_models(client: httpx.Client) -> None:
    index = {entry["name"]: entry for entry in client.get("/v1/models").json()["models"]}
    assert sorted(index) == [
        *("colour", "dial", "five", "foreign", "grey"),
        *("layers", "newer", "rubbish", "tiled", "whole"),
    ]
    ready = {name for name, entry in index.items() if entry["state"] == "ready"}
    assert ready == {"colour", "dial", "five", "grey", "layers", "tiled", "whole"}
    assert "adopt" in index["foreign"]["reason"]
    assert "schema" in index["newer"]["reason"]
    assert index["rubbish"]["reason"]
    versions = {v["version"]: v["state"] for v in index["colour"]["versions"]}
    assert versions == {1: "ready", 2: "ready", 3: "failed"}
    assert index["colour"]["default_version"] == 2


def test_reasons_do_not_tell_the_servers_folders(client: httpx.Client, models: Path) -> None:
    assert str(models) not in client.get("/v1/models").text


def test_a_model_is_shown_with_its_spec_but_without_the_golden_arrays(
    client: httpx.Client, models: Path
) -> None:
    answer = client.get("/v1/models/colour")
    shown = answer.json()
    model = Model.open(models / "colour" / "2" / "model.onnx", device="cpu", threads=1)
    assert shown["sha256"] == model.sha256 == answer.headers["x-longskip-sha256"]
    assert shown["provider"] == "CPUExecutionProvider"
    assert shown["precision"] == "fp32"
    assert [c["name"] for c in shown["classes"]] == ["background", "mid", "high"]
    assert [c["index"] for c in shown["classes"]] == [0, 1, 2]
    expected = json.loads(model.spec.to_metadata())
    assert expected["golden"].pop("labels_b64")
    assert expected["golden"].pop("probabilities_b64")
    assert shown["spec"] == expected


def test_one_version_can_be_shown(client: httpx.Client) -> None:
    first = client.get("/v1/models/colour/versions/1")
    assert first.headers["x-longskip-version"] == "1"
    assert first.json()["spec"]["name"] == "colour"
    failed = client.get("/v1/models/colour/versions/3").json()
    assert failed["state"] == "failed"
    assert "golden" in failed["reason"]
    assert client.get("/v1/models/colour/versions/4").status_code == 404
    assert client.get("/v1/models/nowhere").status_code == 404


def test_every_answer_about_a_model_carries_its_headers(
    segment: Any, encode_png: Any, make_pixels: Any
) -> None:
    answers = [
        segment("grey", encode_png(make_pixels(8, 8))),
        segment("grey", b"no image at all"),
        segment("grey", encode_png(make_pixels(8, 8)), format="nonsense"),
    ]
    for answer in answers[:2]:
        assert answer.headers["x-longskip-model"] == "grey"
        assert answer.headers["x-longskip-version"] == "1"
        assert len(answer.headers["x-longskip-sha256"]) == 64
        assert answer.headers["x-longskip-provider"] == "CPUExecutionProvider"
        assert answer.headers["x-longskip-precision"] == "fp32"
    for answer in answers:
        assert answer.headers["x-longskip-request-id"]
        assert "total;dur=" in answer.headers["server-timing"]
    for stage in ("admit", "decode", "queue", "run", "encode"):
        assert f"{stage};dur=" in answers[0].headers["server-timing"]


def test_live_and_ready(client: httpx.Client) -> None:
    assert client.get("/v2/health/live").status_code == 200
    assert client.get("/v2/health/ready").status_code == 200
    metadata = client.get("/v2").json()
    assert metadata["name"] == "longskip"
    assert metadata["version"]


def test_readiness_of_one_model(client: httpx.Client) -> None:
    assert client.get("/v2/models/grey/ready").status_code == 200
    assert client.get("/v2/models/colour/versions/1/ready").status_code == 200
    for path, status in [("colour/versions/3", 400), ("foreign", 400), ("nowhere", 404)]:
        answer = client.get(f"/v2/models/{path}/ready")
        assert answer.status_code == status
        assert set(answer.json()) == {"error"}


def test_errors_under_v2_are_as_the_protocol_says(client: httpx.Client) -> None:
    for answer in (client.get("/v2/nothing"), client.delete("/v2/health/live")):
        assert answer.status_code in (404, 405)
        assert answer.headers["content-type"] == "application/json"
        assert set(answer.json()) == {"error"}


def test_without_models_it_answers_but_is_not_ready_and_says_why(serve_in_thread: Any) -> None:
    with serve_in_thread([]) as address:
        assert httpx.get(f"{address}/v2/health/live").status_code == 200
        not_ready = httpx.get(f"{address}/v2/health/ready")
        assert not_ready.status_code == 503
        assert "LONGSKIP_MODELS" in not_ready.json()["error"]
        assert httpx.get(f"{address}/v1/models").json()["models"] == []


def test_metrics_count_requests_by_model_format_and_status(
    client: httpx.Client, segment: Any, encode_png: Any, make_pixels: Any
) -> None:
    line = 'longskip_requests_total{format="geojson",model="five",status="422"}'

    def count() -> float:
        lines = client.get("/metrics").text.splitlines()
        return next((float(text.split()[-1]) for text in lines if text.startswith(line)), 0.0)

    before = count()
    segment("five", encode_png(make_pixels(8, 8)), format="geojson")
    assert count() == before + 1


def test_openapi_has_examples_and_the_warning(client: httpx.Client) -> None:
    document = client.get("/openapi.json").json()
    assert "not a medical device" in document["info"]["description"]
    operation = document["paths"]["/v1/models/{model}/segment"]["post"]
    content = operation["requestBody"]["content"]
    assert {"multipart/form-data", "image/png", "application/octet-stream"} <= set(content)
    assert operation["responses"]["200"]["content"]["application/json"]["example"]["classes"]
    assert "application/problem+json" in operation["responses"]["413"]["content"]
    assert "HTTPValidationError" not in str(document)  # FastAPI's own form, which is never sent
    for path in ("{model}", "{model}/versions/{version}"):
        responses = document["paths"][f"/v2/models/{path}/ready"]["get"]["responses"]
        assert {"200", "400", "404"} <= set(responses)
    names = {parameter["name"] for parameter in operation["parameters"]}
    assert names == {"model", "format", "orientation", "opacity", "skip_gain"}


def test_a_proxys_prefix_and_other_origins_can_be_set(
    serve_in_thread: Any, gated_model: Any
) -> None:
    settings = {"root_path": "/tool", "cors_origins": ("https://viewer.example",)}
    with serve_in_thread([("gated", gated_model)], **settings) as address:
        for origin, allowed in [("https://viewer.example", True), ("https://other.example", False)]:
            answer = httpx.get(f"{address}/v1/models", headers={"Origin": origin})
            assert ("access-control-allow-origin" in answer.headers) is allowed
        assert httpx.get(f"{address}/v2/nothing").json().keys() == {"error"}
