"""The events as metrics of ``prometheus_client``, for an application that is scraped.

    tocsin.configure(exporters=[PrometheusExporter()])

Needs ``pip install "tocsin[prometheus]"``. Names, labels and buckets: :mod:`tocsin.exporters.metrics`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from weakref import WeakKeyDictionary

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram

from tocsin.exporters.metrics import METRICS, Bounded, Metric, measurements, siblings

_Family = Counter | Gauge | Histogram

#: What a registry already has: it takes each name once, and `configure` may be called again.
_families: WeakKeyDictionary[CollectorRegistry, dict[str, _Family]] = WeakKeyDictionary()


class PrometheusExporter:
    """Registers the metrics in ``registry`` (``prometheus_client``'s own one) and feeds them.

    A label has at most 500 values, then ``_other``; one that an event lacks is empty. The first value of a
    metric starts all its outcomes at 0. Works with ``PROMETHEUS_MULTIPROC_DIR``. Raises ValueError if the
    registry has a metric of one of these names from somebody else.
    """

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        registry = REGISTRY if registry is None else registry
        if registry not in _families:
            _families[registry] = {row.prometheus: _family(row, registry) for row in _rows()}
        self._families = _families[registry]
        self._bounded = Bounded()
        self._known: set[tuple[str, tuple[str, ...]]] = set()

    def __call__(self, record: Mapping[str, Any]) -> None:
        """Counts one record."""
        for measured in measurements(record):
            if measured.metric.prometheus:
                metric, value, labels = self._bounded(measured)
                self._observe(metric, value, labels)

    def _observe(self, metric: Metric, value: float, labels: tuple[str, ...]) -> None:
        family = self._families[metric.prometheus]
        if (metric.prometheus, labels) not in self._known:
            self._known.add((metric.prometheus, labels))
            for beside in siblings(metric, labels):
                family.labels(*beside)
        child = family.labels(*labels)
        if isinstance(child, Histogram):
            child.observe(value)
        elif isinstance(child, Counter):
            child.inc(value)
        else:
            child.set(value)


def _rows() -> list[Metric]:
    """One row of each name: the kinds of tokens share theirs."""
    return list({row.prometheus: row for row in METRICS if row.prometheus}.values())


def _family(row: Metric, registry: CollectorRegistry) -> _Family:
    names = [label.field for label in row.labels]
    if row.kind == "histogram":
        return Histogram(row.prometheus, row.help, names, buckets=row.buckets, registry=registry)
    if row.kind == "counter":
        return Counter(row.prometheus, row.help, names, registry=registry)
    # Whichever process looked last knows the state of a queue or volume.
    return Gauge(row.prometheus, row.help, names, registry=registry, multiprocess_mode="mostrecent")
