"""What a rule is: an alert's name, one condition of the kinds in :class:`When`, and how long it must hold."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import Field, Strict, StringConstraints

from tocsin_server.query import Model
from tocsin_server.rules.absence import Absence, Always
from tocsin_server.rules.counts import DistinctCount, EventCount
from tocsin_server.rules.gauges import LatestRatio, LatestSum
from tocsin_server.rules.readings import Condition
from tocsin_server.rules.results import LastResults
from tocsin_server.rules.select import Select
from tocsin_server.rules.shares import FractionBeyond, Ratio
from tocsin_server.rules.values import LabelFields, NotEmpty, Steps, Threshold

AlertName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,99}$")]


class When(Model):
    """``when``: a condition of exactly one kind (the loader checks that, to give the fault its line)."""

    ratio: Ratio | None = None
    fraction: FractionBeyond | None = None
    count: EventCount | None = None
    distinct: DistinctCount | None = None
    latest_sum: LatestSum | None = None
    latest_ratio: LatestRatio | None = None
    last_results: LastResults | None = None
    absence: Absence | None = None
    always: Always | None = None
    sql: Select | None = None


#: Word under ``when`` -> kind of condition.
KINDS: dict[str, type[Condition]] = {
    name: get_args(kind.annotation)[0] for name, kind in When.model_fields.items()
}


class Rule(Model):
    """One alert. Durations are in microseconds."""

    alert: AlertName
    title: str = ""
    severity: Literal["critical", "warning", "info"]
    action: str = ""
    #: What the condition measures, in the order's words; the numbers around it come from the condition.
    subject: str = ""
    runbooks: list[str] = Field(default_factory=list)
    when: When
    for_us: Annotated[Steps, Field(alias="for")] = 0
    keep_us: Annotated[Steps, Field(alias="keep_firing_for")] = 0
    by: LabelFields = Field(default_factory=lambda: {"service": "service", "environment": "environment"})
    #: Once firing, the alert stays until its value is at most this.
    resolve_threshold: Threshold | None = None
    #: Most instances; what is above it becomes one instance with the label ``overflow``.
    limit: Annotated[int, Strict(), Field(ge=1, le=100_000)] = 1000
    #: About the alerting itself: opens no incident, left out of a backtest unless asked for.
    meta: Annotated[bool, Strict()] = False

    @property
    def condition(self) -> Condition:
        """The one condition under ``when``."""
        found: Condition = next(
            condition for kind in KINDS if (condition := getattr(self.when, kind)) is not None
        )
        return found

    @property
    def label_names(self) -> set[str]:
        """Names of the identity labels."""
        return set(self.by)


class Inhibition(Model):
    """While ``source`` fires, ``targets`` with the same ``equal`` labels are not sent."""

    source: AlertName
    targets: Annotated[list[AlertName], NotEmpty]
    equal: list[str] = Field(default_factory=list)


class RuleFile(Model):
    """One file of rules."""

    alerts: Annotated[list[Rule], NotEmpty]
    inhibit: list[Inhibition] = Field(default_factory=list)
