"""Prometheus' rules and Grafana's dashboard name only what a running service tells."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from service.protocols.problems import KINDS, UNEXPECTED
from service.repository.repository import UnusedModel

# Prometheus puts these on what it scrapes, and ALERTS is its own.
FROM_PROMETHEUS = {"job", "instance"}
ITS_OWN = {"up": FROM_PROMETHEUS, "ALERTS": {"alertstate", "alertname"}}
SERIES = re.compile(r"\b(longskip_\w+|process_\w+|up|ALERTS)\b(?:\{([^}]*)\})?")
GROUPED = re.compile(r"\bby \(([^)]*)\)")

Exposed = dict[str, set[str]]


@pytest.fixture(scope="session")
def rules(repository_root: Path) -> list[dict[str, Any]]:
    text = (repository_root / "docker" / "prometheus" / "alerts.yml").read_text()
    return [rule for group in yaml.safe_load(text)["groups"] for rule in group["rules"]]


@pytest.fixture(scope="session")
def dashboard(repository_root: Path) -> dict[str, Any]:
    path = repository_root / "docker" / "grafana" / "dashboards" / "longskip.json"
    loaded: dict[str, Any] = json.loads(path.read_text())
    return loaded


@pytest.fixture(scope="session")
def expressions(rules: list[dict[str, Any]], dashboard: dict[str, Any]) -> list[str]:
    """All that Prometheus and Grafana ask."""
    asked = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    asked += [variable["query"] for variable in dashboard["templating"]["list"]]
    return [rule["expr"] for rule in rules] + asked


def faults(expression: str, exposed: Exposed) -> Iterator[str]:
    """What an expression names that nobody tells."""
    told = exposed | ITS_OWN
    labels = set(FROM_PROMETHEUS)
    named = SERIES.findall(expression)
    if not named:
        yield f"no series in {expression}"
    for name, matchers in named:
        if name not in told:
            yield name
            continue
        own = told[name] | FROM_PROMETHEUS
        labels |= own
        for label in re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", matchers):
            if label not in own:
                yield f"{name}{{{label}}}"
    for group in GROUPED.findall(expression):
        yield from (f"by ({one})" for one in re.split(r",\s*", group) if one not in labels)


def test_every_series_and_label_asked_for_is_told(expressions: list[str], exposed: Exposed) -> None:
    assert len(expressions) > 20
    for expression in expressions:
        assert not list(faults(expression, exposed)), expression


@pytest.mark.parametrize(
    ("expression", "fault"),
    [
        ("longskip_queue_length > 1", "longskip_queue_length"),
        ('longskip_queue_depth{name="a"}', "longskip_queue_depth{name}"),
        ("sum by (reason) (longskip_queue_depth)", "by (reason)"),
        ("rate(longskip_stage_seconds[1m])", "longskip_stage_seconds"),
    ],
)
def test_another_would_be_found(expression: str, fault: str, exposed: Exposed) -> None:
    assert list(faults(expression, exposed)) == [fault]


def test_values_of_labels_are_those_that_there_are(
    expressions: list[str], exposed: Exposed
) -> None:
    text = " ".join(expressions)
    states = UnusedModel.__dataclass_fields__["state"].type
    for state in re.findall(r'state="(\w+)"', text):
        assert state in ("ready", "firing") or repr(state) in str(states)
    slugs = {kind.slug for kind in (*KINDS.values(), UNEXPECTED)}
    (reasons,) = re.findall(r'reason=~"([^"]+)"', text)
    for reason in reasons.split("|"):
        assert reason.removesuffix(".*") in slugs


def test_alerts_say_what_to_do_and_how_bad_it_is(rules: list[dict[str, Any]]) -> None:
    assert len({rule["alert"] for rule in rules}) == len(rules)
    for rule in rules:
        assert rule["for"]
        assert rule["labels"]["severity"] in ("critical", "warning")
        assert set(rule["annotations"]) == {"summary", "description"}


def test_each_alert_is_tried_silent_and_firing(
    rules: list[dict[str, Any]], repository_root: Path
) -> None:
    tests = yaml.safe_load((repository_root / "docker/prometheus/alerts.test.yml").read_text())
    silent, _, firing = tests["tests"]
    names = {rule["alert"] for rule in rules}
    assert {one["alertname"] for one in silent["alert_rule_test"]} == names
    fired = [s["labels"] for s in firing["promql_expr_test"][0]["exp_samples"]]
    assert set(re.findall(r'alertname="(\w+)"', " ".join(fired))) == names


def test_the_files_are_where_compose_mounts_them(
    compose: dict[str, Any], repository_root: Path
) -> None:
    for name in ("prometheus", "grafana"):
        service = compose["services"][name]
        mounts = [mount.split(":") for mount in service["volumes"] if mount.startswith("./")]
        for source, _, mode in mounts:
            assert (repository_root / source).is_dir()
            assert mode == "ro"
        assert re.fullmatch(r"[a-z]+/[a-z]+:v?\d+\.\d+\.\d+", service["image"])
        assert all(port.startswith("127.0.0.1:") for port in service["ports"])
    config = yaml.safe_load((repository_root / "docker/prometheus/prometheus.yml").read_text())
    (job,) = config["scrape_configs"]
    (names,) = [sd["names"] for sd in job["dns_sd_configs"]]
    for name in ("cpu", "gpu"):
        assert compose["services"][name]["networks"]["default"]["aliases"] == names


def test_panels_have_a_place_of_their_own(dashboard: dict[str, Any]) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in dashboard["panels"]:
        at = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert max(x for x, _ in cells) < 24
        assert not cells & taken
        taken |= cells
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])


@pytest.mark.parametrize(
    "words",
    [
        ("check", "config", "docker/prometheus/prometheus.yml"),
        ("test", "rules", "docker/prometheus/alerts.test.yml"),
    ],
    ids=["config", "rules"],
)
def test_prometheus_own_tool_finds_nothing(repository_root: Path, words: tuple[str, ...]) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("there is no promtool; Debian's package prometheus has it")
    ran = subprocess.run(
        [promtool, *words], cwd=repository_root, capture_output=True, text=True, timeout=60
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
