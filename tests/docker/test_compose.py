import re
from pathlib import Path
from typing import Any

import pytest

from service.settings import ENVIRONMENT_PREFIX, Settings

SERVICES = ("cpu", "gpu")
JOBS = ("train", "train-gpu")
WATCHERS = ("prometheus", "grafana")
# Where things are inside the image; outside, compose's own variables decide.
# DEV is for a service that listens on its own machine only.
FIXED_BY_THE_IMAGE = {"DEV", "HOST", "MODELS", "PORT", "SAMPLES"}


def test_has_the_profiles_that_the_guide_names(compose: dict[str, Any]) -> None:
    profiles = {name: service["profiles"] for name, service in compose["services"].items()}
    named = {name: [name] for name in (*SERVICES, *JOBS)}
    assert profiles == named | {name: ["metrics"] for name in WATCHERS}


@pytest.mark.parametrize("name", [*SERVICES, *JOBS, *WATCHERS])
def test_confines_every_container(compose: dict[str, Any], name: str) -> None:
    service = compose["services"][name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert re.search(r"\b[1-9]\d*:[1-9]\d*\b", service["user"])
    assert name in WATCHERS or "10001:10001" in service["user"]
    assert service["mem_limit"]
    assert service["tmpfs"][0].split(":")[0] == "/tmp"


@pytest.mark.parametrize("name", SERVICES)
def test_publishes_a_service_on_this_machine_only(compose: dict[str, Any], name: str) -> None:
    service = compose["services"][name]
    assert service["ports"] == ["${LONGSKIP_PUBLISH:-127.0.0.1:8000}:8000"]
    assert all(mount.endswith(":ro") for mount in service["volumes"])


@pytest.mark.parametrize("name", JOBS)
def test_gives_a_job_no_network_and_its_data_read_only(compose: dict[str, Any], name: str) -> None:
    job = compose["services"][name]
    assert job["network_mode"] == "none"
    (data,) = (mount for mount in job["volumes"] if "/longskip/data" in mount)
    assert data.endswith(":ro")


@pytest.mark.parametrize("name", SERVICES)
def test_takes_over_every_setting_of_the_service(compose: dict[str, Any], name: str) -> None:
    given = {
        key.removeprefix(ENVIRONMENT_PREFIX) for key in compose["services"][name]["environment"]
    }
    known = {field.upper() for field in Settings.model_fields}
    assert given == known - FIXED_BY_THE_IMAGE


def test_waits_longer_than_a_request_may_take(compose: dict[str, Any]) -> None:
    grace_s = int(compose["services"]["cpu"]["stop_grace_period"].removesuffix("s"))
    assert grace_s > Settings.model_fields["deadline_s"].default


def test_every_dockerfile_named_is_there(compose: dict[str, Any], repository_root: Path) -> None:
    built = [service["build"] for service in compose["services"].values() if "build" in service]
    named = {build["dockerfile"] for build in built}
    found = {f"docker/{path.name}" for path in (repository_root / "docker").glob("*.Dockerfile")}
    assert named == found
