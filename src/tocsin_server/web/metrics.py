"""The metrics of this process in Prometheus' text format.

Label sets are closed (row I9): no value that comes from telemetry becomes a label, but the labels of alert
instances, which the rules limit.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector
from sqlalchemy import func, select

from tocsin_server.clock import SECOND_US
from tocsin_server.state.tables import AlertState, EvaluatorProgress, Incident, Notification
from tocsin_server.web.services import Services

__all__ = ["CONTENT_TYPE_LATEST", "text"]

_STATUSES = ("pending", "sending", "delivered", "dead")


def text(services: Services) -> bytes:
    """Alerts, evaluation, notifications, incidents and the health of each step, as of now."""
    registry = CollectorRegistry()
    registry.register(_Metrics(services))
    return generate_latest(registry)


class _Metrics(Collector):
    def __init__(self, services: Services) -> None:
        self._services = services

    def collect(self) -> Iterator[Any]:
        status = self._services.status()
        yield from _process(status)
        yield _tail(status["tail"])
        with self._services.state.reading() as session:
            progress = session.get(EvaluatorProgress, 1)
            states = session.scalars(select(AlertState)).all()
            by_status = select(Incident.status, func.count()).group_by(Incident.status)
            incidents = {row[0]: row[1] for row in session.execute(by_status)}
            by_fate = select(Notification.status, func.count()).group_by(Notification.status)
            told = {row[0]: row[1] for row in session.execute(by_fate)}
        evaluated = 0.0 if progress is None else progress.last_at / SECOND_US
        yield GaugeMetricFamily(
            "tocsin_last_evaluation_timestamp_seconds", "Last evaluated instant.", evaluated
        )
        yield _counts("tocsin_incidents", "Incidents.", incidents, ("open", "acknowledged"))
        yield _counts("tocsin_notifications", "Notifications by status.", told, _STATUSES)
        alerts = GaugeMetricFamily(
            "ALERTS", "Pending and firing alerts.", labels=("alertname", "alertstate", "instance")
        )
        for state in states:
            alerts.add_metric(
                (state.alert, "pending" if state.fired_at is None else "firing", state.labels_key), 1
            )
        yield alerts


def _process(status: Mapping[str, Any]) -> Iterator[Any]:
    yield GaugeMetricFamily("tocsin_healthy", "1 when every part works.", float(status["healthy"]))
    yield GaugeMetricFamily("tocsin_data_free_bytes", "Free space of the data folder.", status["free_bytes"])
    spool = CounterMetricFamily("tocsin_spool_damaged_bytes", "Damage found in the spool.", labels=("kind",))
    for name, value in status["spool"].items():
        spool.add_metric((name.removesuffix("_bytes"),), value)
    yield spool
    steps = GaugeMetricFamily("tocsin_step_ok", "1 when the last run of a step worked.", labels=("step",))
    for step in status["steps"]:
        steps.add_metric((step["step"],), float(step["ok"]))
    yield steps


def _tail(counters: Mapping[str, int]) -> Any:
    family = CounterMetricFamily("tocsin_tail", "What following files met.", labels=("kind",))
    for name, value in sorted(counters.items()):
        family.add_metric((name.removeprefix("tail_").removesuffix("_total"),), value)
    return family


def _counts(name: str, text: str, found: Mapping[str, int], kinds: tuple[str, ...]) -> Any:
    family = GaugeMetricFamily(name, text, labels=("status",))
    for kind in kinds:
        family.add_metric((kind,), found.get(kind, 0))
    return family
