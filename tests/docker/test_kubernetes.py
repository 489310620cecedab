"""The manifests agree with the image, the settings, the addresses and the metrics."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from service.app import create_app
from service.settings import ENVIRONMENT_PREFIX, Settings

NAMED = {"app.kubernetes.io/name": "longskip"}


@pytest.fixture(scope="module")
def folder(repository_root: Path) -> Path:
    return repository_root / "docker" / "kubernetes"


@pytest.fixture(scope="module")
def manifests(folder: Path) -> dict[str, dict[str, Any]]:
    """What is applied, by kind."""
    listed = yaml.safe_load((folder / "kustomization.yaml").read_text())["resources"]
    loaded = [yaml.safe_load((folder / name).read_text()) for name in listed]
    assert len({one["kind"] for one in loaded}) == len(loaded)
    return {one["kind"]: one for one in loaded}


@pytest.fixture(scope="module")
def pod(manifests: dict[str, dict[str, Any]]) -> Any:
    return manifests["Deployment"]["spec"]["template"]["spec"]


@pytest.fixture(scope="module")
def container(pod: Any) -> Any:
    (only,) = pod["containers"]
    return only


@pytest.fixture(scope="module")
def dockerfile(repository_root: Path) -> str:
    return (repository_root / "docker" / "service.Dockerfile").read_text()


def test_every_file_is_applied(folder: Path) -> None:
    listed = yaml.safe_load((folder / "kustomization.yaml").read_text())["resources"]
    others = {"kustomization.yaml", "prometheus-adapter.values.yaml"}
    assert set(listed) | others == {path.name for path in folder.iterdir()}


def test_all_mean_the_same_pods(manifests: dict[str, dict[str, Any]]) -> None:
    deployment = manifests["Deployment"]["spec"]
    assert deployment["template"]["metadata"]["labels"] == NAMED
    assert deployment["selector"]["matchLabels"] == NAMED
    assert manifests["Service"]["spec"]["selector"] == NAMED
    assert manifests["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"] == NAMED
    assert manifests["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"] == NAMED
    target = manifests["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]
    assert (target["kind"], target["name"]) == ("Deployment", "longskip")
    # The autoscaler's number would be taken back at each apply.
    assert "replicas" not in deployment


def test_settings_are_the_services_own(manifests: dict[str, dict[str, Any]]) -> None:
    written = manifests["ConfigMap"]["data"]
    own = {name for name in written if name.startswith(ENVIRONMENT_PREFIX)}
    assert own
    fields = {name.removeprefix(ENVIRONMENT_PREFIX).lower(): written[name] for name in own}
    Settings(**fields)
    assert set(fields) <= set(Settings.model_fields)
    assert all(isinstance(value, str) for value in written.values())


def test_no_variable_of_kubernetes_is_taken_for_a_setting(pod: Any) -> None:
    # A Service named longskip gives pods LONGSKIP_PORT=tcp://10.0.0.1:8000.
    assert pod["enableServiceLinks"] is False
    with pytest.raises(ValueError, match="port"):
        Settings(port="tcp://10.0.0.1:8000")


def test_a_pod_is_given_the_time_that_it_may_take(
    pod: Any, container: Any, manifests: dict[str, dict[str, Any]]
) -> None:
    data = manifests["ConfigMap"]["data"]
    drain_s, deadline_s = float(data["LONGSKIP_DRAIN_S"]), float(data["LONGSKIP_DEADLINE_S"])
    assert pod["terminationGracePeriodSeconds"] > drain_s + deadline_s
    ready = container["readinessProbe"]
    assert ready["periodSeconds"] * ready["failureThreshold"] + ready["timeoutSeconds"] < drain_s


def test_ports_and_paths_are_the_images(
    container: Any, manifests: dict[str, dict[str, Any]], dockerfile: str, tmp_path: Path
) -> None:
    (exposed,) = re.findall(r"^EXPOSE (\d+)$", dockerfile, re.MULTILINE)
    (port,) = container["ports"]
    (service,) = manifests["Service"]["spec"]["ports"]
    (policy,) = manifests["NetworkPolicy"]["spec"]["ingress"]
    notes = manifests["Deployment"]["spec"]["template"]["metadata"]["annotations"]
    assert {
        port["containerPort"],
        service["port"],
        policy["ports"][0]["port"],
        int(notes["prometheus.io/port"]),
    } == {int(exposed)}
    assert service["targetPort"] == port["name"]
    paths = create_app(Settings(models=tmp_path)).openapi()["paths"]
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        asked = container[probe]["httpGet"]
        assert asked["port"] == port["name"]
        assert "get" in paths[asked["path"]]
    assert container["readinessProbe"]["httpGet"]["path"] == "/v2/health/ready"
    assert "get" in paths[notes["prometheus.io/path"]]


def test_a_pod_may_do_no_more_than_a_container_of_compose(
    pod: Any, container: Any, compose: dict[str, Any], dockerfile: str
) -> None:
    composed = compose["services"]["cpu"]
    user, group = map(int, composed["user"].split(":"))
    assert f"USER {user}:{group}" in dockerfile
    assert (
        pod["securityContext"] | {"runAsUser": user, "runAsGroup": group}
        == (pod["securityContext"])
    )
    assert pod["securityContext"]["runAsNonRoot"] is True
    own = container["securityContext"]
    assert own["readOnlyRootFilesystem"] is composed["read_only"] is True
    assert own["capabilities"]["drop"] == composed["cap_drop"]
    assert own["allowPrivilegeEscalation"] is False
    assert pod["automountServiceAccountToken"] is False
    assert container["resources"]["limits"]["memory"]
    mounts = {mount["mountPath"]: mount for mount in container["volumeMounts"]}
    assert set(mounts) == {"/models", "/tmp"}
    assert mounts["/models"]["readOnly"] is True
    assert "LONGSKIP_MODELS=/models" in dockerfile


def test_the_image_is_composes(folder: Path, container: Any, compose: dict[str, Any]) -> None:
    (image,) = yaml.safe_load((folder / "kustomization.yaml").read_text())["images"]
    assert image["name"] == container["image"]
    assert f"{image['newName']}:{image['newTag']}" == compose["services"]["cpu"]["image"]


def test_the_autoscaler_asks_for_what_the_adapter_makes_of_the_services_metrics(
    folder: Path, manifests: dict[str, dict[str, Any]], exposed: dict[str, set[str]]
) -> None:
    (metric,) = manifests["HorizontalPodAutoscaler"]["spec"]["metrics"]
    values = yaml.safe_load((folder / "prometheus-adapter.values.yaml").read_text())
    (rule,) = values["rules"]["custom"]
    assert metric["pods"]["metric"]["name"] == rule["name"]["as"]
    assert rule["name"]["as"] not in exposed
    series, _, _ = rule["seriesQuery"].partition("{")
    assert "stage" in exposed[series]
    for name in re.findall(r"\blongskip_\w+", rule["metricsQuery"]):
        assert name in exposed
