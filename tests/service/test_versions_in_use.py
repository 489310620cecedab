"""A real service whose ``models.yaml`` changes while it is asked, with room for one model."""

import os
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import tritonclient.http as triton

from contract.model import Model

VERSIONS = (1, 2, 3)
WITHIN_S = 30.0
STABLE = "m: {{aliases: {{stable: {stable}, canary: {{version: 3, weight: {weight}}}}}}}"


@pytest.fixture
def root(tmp_path: Path, build_threshold_model: Callable[..., Path]) -> Path:
    """Three versions of one model and one of another."""
    for version in VERSIONS:
        path = tmp_path / "m" / str(version) / "model.onnx"
        build_threshold_model(path, name="m", threshold=version / 3)
    build_threshold_model(tmp_path / "n" / "1" / "model.onnx", name="n")
    return tmp_path


def say(root: Path, text: str) -> None:
    """As an editor does it: whole, or not at all."""
    beside = root / ".models.yaml.part"
    beside.write_text(text)
    os.replace(beside, root / "models.yaml")


def until(met: Callable[[], bool]) -> None:
    end_s = time.monotonic() + WITHIN_S
    while not met():
        assert time.monotonic() < end_s
        time.sleep(0.05)


class Askers:
    """Clients that ask without a pause, and remember what they were answered."""

    def __init__(self, address: str, image: Any, expected: dict[str, bytes], places: Any) -> None:
        self.answered: Counter[tuple[str, str]] = Counter()
        self.wrong: list[str] = []
        self._address, self._image, self._expected = address, image, expected
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(place,)) for place in places]

    def __enter__(self) -> "Askers":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def seen(self, place: str, version: int) -> int:
        return self.answered[place, str(version)]

    def _ask(self, place: str) -> None:
        tensor = {"name": "image", "datatype": "FP32", "shape": [1, *self._image.shape]}
        inputs = [{**tensor, "data": self._image.ravel().tolist()}]
        body = {"inputs": inputs, "outputs": [{"name": "labels"}]}
        with httpx.Client(base_url=self._address, timeout=60, trust_env=False) as client:
            while not self._stop.is_set():
                answer = client.post(f"/v2/models/{place}/infer", json=body)
                if answer.status_code != 200:
                    self.wrong.append(f"{answer.status_code}: {answer.text}")
                    continue
                labels = np.array(answer.json()["outputs"][0]["data"], np.uint8)
                if labels.tobytes() != self._expected[answer.headers["x-longskip-sha256"]]:
                    self.wrong.append("an answer that is not of the file that it names")
                self.answered[place, answer.headers["x-longskip-version"]] += 1


@pytest.mark.parametrize("max_loaded", [None, 1])
def test_no_request_fails_and_every_answer_is_of_the_version_it_names(
    root: Path, start_service: Any, max_loaded: int | None
) -> None:
    image = np.random.default_rng(0).random((1, 24, 24), np.float32) * 255
    expected = {}
    for path in root.glob("*/*/model.onnx"):
        model = Model.open(path, device="cpu", threads=1)
        expected[model.sha256] = model.segment(image).labels.tobytes()
    assert len(expected) == 4
    say(root, STABLE.format(stable=1, weight=0.0))
    settings = {} if max_loaded is None else {"max_loaded": max_loaded}
    plain, alias, other = "m", "m/versions/canary", "n"
    with (
        start_service(models=root, **settings) as service,
        httpx.Client(base_url=service.address, timeout=30, trust_env=False) as client,
        Askers(service.address, image, expected, (plain, alias, other)) as askers,
    ):

        def complaint() -> str:
            return client.get("/v1/models").json()["complaint"] or ""

        until(lambda: askers.seen(plain, 1) > 5 and askers.seen(alias, 3) > 0)
        assert askers.seen(plain, 2) == askers.seen(plain, 3) == 0
        say(root, STABLE.format(stable=2, weight=0.0))
        until(lambda: askers.seen(plain, 2) > 5)
        say(root, "m: {aliases: {stable: 1")
        until(lambda: "no YAML" in complaint())
        say(root, STABLE.format(stable=9, weight=0.0))
        until(lambda: "no version 9 of m" in complaint())
        before = askers.seen(plain, 2)
        until(lambda: askers.seen(plain, 2) > before + 5)
        assert askers.seen(plain, 3) == 0
        say(root, STABLE.format(stable=2, weight=0.5))
        until(lambda: askers.seen(plain, 3) > 5)
        assert complaint() == ""
        until(lambda: askers.seen(other, 1) > 5)
    assert askers.wrong == []
    assert {version for place, version in askers.answered if place == alias} == {"3"}


def test_all_places_tell_of_idle_models(
    root: Path, start_service: Any, make_pixels: Any, encode_png: Any
) -> None:
    canary = "canary: {version: 3, weight: 0.5}"
    say(root, f"m: {{versions: {{latest: 2}}, aliases: {{stable: 2, {canary}}}}}")
    with (
        start_service(models=root, max_loaded=1, reload=False) as service,
        httpx.Client(base_url=service.address, timeout=30, trust_env=False) as client,
        triton.InferenceServerClient(service.address.removeprefix("http://")) as stock,
    ):
        assert stock.is_server_ready()
        assert stock.is_model_ready("m")
        assert stock.is_model_ready("m", "stable")
        assert not stock.is_model_ready("m", "1")
        index = {(one["name"], one["version"]): one for one in stock.get_model_repository_index()}
        assert index["m", "1"]["state"] == "UNAVAILABLE"
        assert index["m", "3"]["state"] == index["n", "1"]["state"] == "READY"
        shown = client.get("/v1/models/m").json()
        assert (shown["state"], shown["default_version"]) == ("idle", 2)
        assert [one["state"] for one in shown["versions"]] == ["unloaded", "idle", "idle"]
        assert shown["in_use"] == {"latest": 2}
        assert shown["aliases"] == {
            "stable": {"version": 2, "weight": 0.0},
            "canary": {"version": 3, "weight": 0.5},
        }
        assert shown["spec"]["name"] == "m"
        assert [one["name"] for one in shown["classes"]] == ["background", "bright"]
        assert client.get("/v1/models/m/versions/stable").json()["state"] == "idle"
        assert 'longskip_model_state{model="m",state="idle",version="3"} 1.0' in (
            client.get("/metrics").text
        )
        # Asked for its tensors it is loaded, because they stand in the graph alone.
        assert stock.get_model_metadata("m", "stable")["versions"] == ["2"]
        assert client.get("/v1/models/m").json()["state"] == "ready"
        assert stock.get_model_config("m")["version_policy"] == {"latest": {"num_versions": 2}}
        picture = encode_png(make_pixels(8, 8))
        compared = client.post("/v1/compare?models=m@stable,m@3,n,m", content=picture)
        assert compared.status_code == 200, compared.text
        assert [one["version"] for one in compared.json()["models"]] == [2, 3, 1, 2]
        assert "load;dur=" in compared.headers["server-timing"]

        def version(request_id: str) -> str:
            headers = {"X-Request-Id": request_id}
            answer = client.post("/v1/models/m/segment", content=picture, headers=headers)
            return answer.headers["x-longskip-version"]

        ids = [f"study-{number}" for number in range(12)]
        first = [version(one) for one in ids]
        assert set(first) == {"2", "3"}
        assert [version(one) for one in ids] == first  # one that is sent again meets the same


def test_a_file_that_does_not_read_ends_the_start(root: Path, start_service: Any) -> None:
    say(root, "m: {versions: newest}")
    with pytest.raises(RuntimeError, match=r"models\.yaml does not fit: m\.versions"):
        start_service(models=root).__enter__()
