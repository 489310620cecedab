"""KServe's manifests hold what its types want, and agree with the image, the settings, the routes.

The names of fields are those of KServe 0.21's types (v1alpha1, v1beta1); there is no cluster here.
"""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from service.app import create_app
from service.settings import ENVIRONMENT_PREFIX, Settings

POD_FIELDS = {
    *("containers", "volumes", "nodeSelector", "affinity", "tolerations", "labels", "annotations"),
    *("imagePullSecrets", "hostIPC"),
}
RUNTIME_FIELDS = POD_FIELDS | {
    *("supportedModelFormats", "multiModel", "disabled", "protocolVersions", "workerSpec"),
    *("grpcEndpoint", "grpcDataEndpoint", "httpDataEndpoint", "replicas", "storageHelper"),
    "builtInAdapter",
}
FORMAT_FIELDS = {"name", "version", "autoSelect", "priority"}
PROTOCOLS = {"v1", "v2", "grpc-v1", "grpc-v2"}
MODEL_FIELDS = {"modelFormat", "runtime", "protocolVersion", "storageUri", "storage", "env"}
PREDICTOR_FIELDS = {
    *("minReplicas", "maxReplicas", "scaleTarget", "scaleMetric", "timeout", "model"),
    *("containerConcurrency", "terminationGracePeriodSeconds", "serviceAccountName"),
    "enableServiceLinks",
}


@pytest.fixture(scope="module")
def runtime(repository_root: Path) -> Any:
    return yaml.safe_load((repository_root / "docker/kserve/runtime.yaml").read_text())


@pytest.fixture(scope="module")
def inference_service(repository_root: Path) -> Any:
    return yaml.safe_load((repository_root / "docker/kserve/models.yaml").read_text())


@pytest.fixture(scope="module")
def container(runtime: Any) -> Any:
    (only,) = runtime["spec"]["containers"]
    return only


@pytest.fixture(scope="module")
def environment(container: Any) -> dict[str, Any]:
    return {one["name"]: one.get("value") for one in container["env"]}


@pytest.fixture(scope="module")
def dockerfile(repository_root: Path) -> str:
    return (repository_root / "docker" / "service.Dockerfile").read_text()


def test_the_runtime_has_the_fields_that_there_are(runtime: Any, container: Any) -> None:
    assert (runtime["apiVersion"], runtime["kind"]) == (
        "serving.kserve.io/v1alpha1",
        "ServingRuntime",
    )
    assert set(runtime["spec"]) <= RUNTIME_FIELDS
    assert set(runtime["spec"]["protocolVersions"]) <= PROTOCOLS
    for model_format in runtime["spec"]["supportedModelFormats"]:
        assert "name" in model_format
        assert set(model_format) <= FORMAT_FIELDS
    # KServe puts the models into the container of this name.
    assert container["name"] == "kserve-container"
    assert all(isinstance(text, str) for text in runtime["spec"]["annotations"].values())


def test_the_inference_service_asks_for_that_runtime(runtime: Any, inference_service: Any) -> None:
    assert (inference_service["apiVersion"], inference_service["kind"]) == (
        "serving.kserve.io/v1beta1",
        "InferenceService",
    )
    predictor = inference_service["spec"]["predictor"]
    assert set(predictor) <= PREDICTOR_FIELDS
    model = predictor["model"]
    assert set(model) <= MODEL_FIELDS
    assert model["runtime"] == runtime["metadata"]["name"]
    assert model["protocolVersion"] in runtime["spec"]["protocolVersions"]
    offered = [(f["name"], f["version"]) for f in runtime["spec"]["supportedModelFormats"]]
    assert (model["modelFormat"]["name"], model["modelFormat"]["version"]) in offered


def test_settings_are_the_services_own(
    environment: dict[str, Any], inference_service: Any, tmp_path: Path
) -> None:
    fields = {name.removeprefix(ENVIRONMENT_PREFIX).lower(): v for name, v in environment.items()}
    assert set(fields) <= set(Settings.model_fields)
    settings = Settings(**{name: value for name, value in fields.items() if value is not None})
    grace_s = inference_service["spec"]["predictor"]["terminationGracePeriodSeconds"]
    assert grace_s > settings.drain_s + settings.deadline_s
    assert settings.models == Path("/mnt/models")


def test_ports_paths_and_user_are_those_of_the_image(
    runtime: Any, container: Any, environment: dict[str, Any], dockerfile: str
) -> None:
    port = int(re.findall(r"LONGSKIP_PORT=(\d+)", dockerfile)[0])
    assert [one["containerPort"] for one in container["ports"]] == [port]
    assert environment["LONGSKIP_PORT"] == str(port)
    assert runtime["spec"]["annotations"]["prometheus.kserve.io/port"] == str(port)
    served = create_app(Settings(port=0)).openapi()["paths"]
    probes = [container[f"{kind}Probe"]["httpGet"] for kind in ("startup", "readiness", "liveness")]
    assert {probe["port"] for probe in probes} == {port}
    for path in [
        *(probe["path"] for probe in probes),
        runtime["spec"]["annotations"]["prometheus.kserve.io/path"],
    ]:
        assert "get" in served[path]
    assert f"USER {container['securityContext']['runAsUser']}:" in dockerfile
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    # The root is read-only, and uploads need a place.
    assert container["securityContext"]["readOnlyRootFilesystem"]
    assert {volume["name"]: "/tmp" for volume in runtime["spec"]["volumes"]} == mounts
