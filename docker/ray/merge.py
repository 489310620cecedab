"""Several replicas' ``/metrics`` as one, each series with the label ``replica``."""

from collections.abc import Iterable, Mapping

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector


def merge_expositions(by_replica: Mapping[str, bytes]) -> bytes:
    """Return Prometheus' text of all replicas.

    Args:
        by_replica: what each replica tells, by its id.
    """
    registry = CollectorRegistry()
    registry.register(_Merged(by_replica))
    return generate_latest(registry)


class _Merged(Collector):
    def __init__(self, by_replica: Mapping[str, bytes]) -> None:
        self._by_replica = by_replica

    def collect(self) -> Iterable[Metric]:
        merged: dict[str, Metric] = {}
        for replica, text in sorted(self._by_replica.items()):
            for family in text_string_to_metric_families(text.decode()):
                whole = merged.setdefault(
                    family.name, Metric(family.name, family.documentation, family.type)
                )
                whole.samples += [
                    sample._replace(labels={**sample.labels, "replica": replica})
                    for sample in family.samples
                ]
        return merged.values()
