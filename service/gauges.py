"""What ``/metrics`` tells of this moment: looked up when somebody asks, at no cost otherwise."""

import os
from collections import Counter as Tally
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from contract.version import __version__
from service.engine.engine import Engine
from service.repository.repository import Repository, ServedModel
from service.settings import Settings
from service.trace import ModelKey

STATES = ("ready", "idle", "failed", "unloaded")
# Of the process's own container, in the second and in the first version of Linux' cgroups.
CGROUP_LIMITS = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)
# A hash is shown to tell files apart; the whole one stands in /v1/models.
SHA256_CHARACTERS = 12


class Gauges(Collector):
    """Reads the engine and the repository, from the thread that answers ``/metrics``."""

    def __init__(
        self,
        engine: Engine,
        repository: Repository,
        settings: Settings,
        draining: Callable[[], bool],
    ) -> None:
        self._engine = engine
        self._repository = repository
        self._settings = settings
        self._draining = draining
        self._memory_limit_bytes = memory_limit_bytes()

    def collect(self) -> Iterable[Metric]:
        """Yield all families."""
        budget = self._engine.budget
        ready = bool(self._repository.usable) and not self._draining()
        yield _one("longskip_ready", "1 where the service is ready, else 0.", ready)
        yield from self._queues()
        yield _one(
            "longskip_requests_under_way_limit",
            "Requests under way that one model takes.",
            self._settings.queue_size,
        )
        held = "Decoded pixels that all images under way hold."
        yield _one("longskip_decoded_pixels", held, budget.held_pixels)
        limit = "Decoded pixels that they may hold."
        yield _one("longskip_decoded_pixels_limit", limit, budget.max_pixels)
        limit = "Memory of the container, or of the machine where it has no limit."
        yield _one("longskip_memory_limit_bytes", limit, self._memory_limit_bytes)
        yield from self._cache()
        yield from self._models()
        build = GaugeMetricFamily("longskip_build_info", "Version of the code.", labels=["version"])
        build.add_metric((__version__,), 1)
        yield build

    def _queues(self) -> Iterable[GaugeMetricFamily]:
        under_way: Tally[ModelKey] = Tally()
        waiting: Tally[ModelKey] = Tally()
        oldest_s: dict[ModelKey, float] = {}
        for one in self._engine.schedulers:  # two of one version while a new file takes over
            under_way[one.key] += one.under_way
            waiting[one.key] += one.waiting
            oldest_s[one.key] = max(oldest_s.get(one.key, 0.0), one.oldest_wait_s)
        for name, text, values in (
            (
                "longskip_requests_under_way",
                "Requests that hold a place.",
                under_way,
            ),
            ("longskip_queue_depth", "Images that wait for their model.", waiting),
            (
                "longskip_queue_oldest_seconds",
                "How long the image has waited whose turn comes next; 0 where none waits.",
                oldest_s,
            ),
        ):
            family = GaugeMetricFamily(name, text, labels=("model", "version"))
            for (model, version), value in values.items():
                family.add_metric((model, str(version)), value)
            yield family

    def _cache(self) -> Iterable[Metric]:
        cache = self._engine.cache
        asked = CounterMetricFamily(
            "longskip_cache_questions",
            "Questions to the kept answers, by whether one was there; 0 where none are kept.",
            labels=["outcome"],
        )
        asked.add_metric(("hit",), cache.hits)
        asked.add_metric(("miss",), cache.misses)
        yield asked
        yield _one("longskip_cache_bytes", "Bytes of answers that are kept.", cache.held_bytes)

    def _models(self) -> Iterable[GaugeMetricFamily]:
        info = GaugeMetricFamily(
            "longskip_model_info",
            "Always 1, for each version in use; its labels tell what it is.",
            labels=("model", "version", "sha256", "provider", "precision"),
        )
        state = GaugeMetricFamily(
            "longskip_model_state",
            "1 for the state that a version is in, 0 for the others.",
            labels=("model", "version", "state"),
        )
        for entry in self._repository.entries:
            version = str(entry.version)
            if isinstance(entry, ServedModel):
                model = entry.model
                short = model.sha256[:SHA256_CHARACTERS]
                info.add_metric((entry.name, version, short, model.provider, model.precision), 1)
            for one in dict.fromkeys((*STATES, entry.state)):
                state.add_metric((entry.name, version, one), one == entry.state)
        yield info
        yield state


def memory_limit_bytes(cgroup_limits: Iterable[Path] = CGROUP_LIMITS) -> int:
    """Return how much memory this process's container may have, else how much there is."""
    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for path in cgroup_limits:
        with suppress(OSError, ValueError):  # not there, or "max"
            return min(there, int(path.read_text()))
    return there


def _one(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, value=value)
