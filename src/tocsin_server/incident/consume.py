"""The step of the flow from transitions to incidents: consumes the evaluator's rows and writes its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from tocsin_server.clock import SECOND_US
from tocsin_server.config import Route
from tocsin_server.incident.inhibition import inhibitor, released
from tocsin_server.incident.records import ask, close, tell
from tocsin_server.incident.words import is_worse, named, title
from tocsin_server.live import RULE_EVALUATION_FAILING
from tocsin_server.notify.groups import Change, observe_all
from tocsin_server.notify.wording import SEVERITIES, measured
from tocsin_server.rules import Catalogue, Rule
from tocsin_server.state import State
from tocsin_server.state.tables import AlertTransition, Incident, IncidentAlert

#: An alert that fires again within this time (µs) reopens its incident.
REOPEN_US = 900 * SECOND_US
#: Transitions of one transaction: a storm must not keep others from writing.
BATCH = 500

_WAITING = select(AlertTransition).where(AlertTransition.handled_at.is_(None)).order_by(AlertTransition.id)


def step(state: State, catalogue: Catalogue, routes: Sequence[Route], now_us: int) -> int:
    """Consumes up to 500 transitions in their order, in one transaction; returns how many.

    A firing alert opens an incident or joins a related one, asks for its runbooks, and is news for the
    notifier; a resolved one ends its part, and with the last one the incident. Superseded transitions are
    only marked as seen.
    """
    with state.reading() as session:
        if session.scalars(_WAITING.limit(1)).first() is None:
            return 0
    with state.transaction() as session:
        rows = session.scalars(_WAITING.limit(BATCH).with_for_update()).all()  # a drill steps beside the loop
        consumer = _Consumer(session, catalogue, now_us)
        for row in rows:
            if not row.superseded:
                consumer.take(row)
            row.handled_at = now_us
        observe_all(session, routes, consumer.news, now_us)
    return len(rows)


class _Consumer:
    """One transaction's work; ``news`` is what the notifier has to hear."""

    def __init__(self, session: Session, catalogue: Catalogue, now_us: int) -> None:
        self.news: list[Change] = []
        self._session = session
        self._rules = {rule.alert: rule for rule in (*catalogue.rules, RULE_EVALUATION_FAILING)}
        self._inhibitions = catalogue.inhibitions
        self._now_us = now_us

    def take(self, transition: AlertTransition) -> None:
        """Acts on one transition; ``pending`` and ``inactive`` concern nobody."""
        rule = self._rules.get(transition.alert)
        if transition.to == "firing" and rule is not None:
            self._fired(transition, rule)
        elif transition.to == "resolved":
            self._resolved(transition, rule)

    # --- an alert fires ---------------------------------------------------------------------------------

    def _fired(self, t: AlertTransition, rule: Rule) -> None:
        if rule.meta:
            self.news.append(_change(t, rule.severity))
            return
        incident = self._incident_of(t, rule)
        episode = _episode(t, rule, incident)
        self._session.add(episode)
        for runbook in rule.runbooks:
            ask(self._session, incident, runbook, "fire", t.labels, t.at, self._now_us)
        if not self._is_inhibited(t, rule, incident):
            self.news.append(_news(episode, incident))

    def _incident_of(self, t: AlertTransition, rule: Rule) -> Incident:
        """The incident of the instance's last episode if that was just now, a related one, or a new one."""
        incident = self._same_again(t) or self._related(t, rule)
        if incident is None:
            incident, kind = self._new(t, rule), "opened"
        else:
            kind = "joined" if incident.resolved_at is None else "reopened"
        if kind == "reopened":
            incident.status, incident.resolved_at, incident.resolved_by = "open", None, None
        tell(self._session, incident, t.at, kind, _fired_words(t, rule))
        if is_worse(rule.severity, incident.severity):
            text = f"Severity raised from {incident.severity} to {rule.severity}"
            tell(self._session, incident, t.at, "escalated", text)
            incident.severity = rule.severity
        return incident

    def _new(self, t: AlertTransition, rule: Rule) -> Incident:
        incident = Incident(
            title=title(rule, t.labels),
            severity=rule.severity,
            environment=t.labels.get("environment", ""),
            status="open",
            opened_at=t.at,
            drill=t.drill,
        )
        self._session.add(incident)
        self._session.flush()
        return incident

    def _same_again(self, t: AlertTransition) -> Incident | None:
        last = self._session.execute(_episodes(t).order_by(IncidentAlert.id.desc()).limit(1)).first()
        if last is None:
            return None
        episode, incident = last
        if episode.resolved_at is None:  # it resolved and fired again in one catch-up
            episode.resolved_at = self._last_resolve(t)
            if incident.resolved_at is None:
                return incident
        return incident if episode.resolved_at >= t.at - REOPEN_US else None

    def _last_resolve(self, t: AlertTransition) -> int:
        same = (AlertTransition.alert == t.alert, AlertTransition.labels_key == t.labels_key)
        earlier = (AlertTransition.id < t.id, AlertTransition.drill == t.drill)
        resolves = select(AlertTransition.at).where(*same, *earlier, AlertTransition.to == "resolved")
        return self._session.scalar(resolves.order_by(AlertTransition.id.desc()).limit(1)) or t.at

    def _related(self, t: AlertTransition, rule: Rule) -> Incident | None:
        """The newest unresolved incident of the environment with the same service or a common runbook."""
        environment = t.labels.get("environment", "")
        unresolved = select(Incident).where(
            Incident.status != "resolved", Incident.environment == environment, Incident.drill == t.drill
        )
        newest = self._session.scalars(unresolved.order_by(Incident.id.desc()))
        return next((incident for incident in newest if self._is_related(incident, t.labels, rule)), None)

    def _is_related(self, incident: Incident, labels: Mapping[str, str], rule: Rule) -> bool:
        members = select(IncidentAlert.alert, IncidentAlert.labels)
        for alert, others in self._session.execute(members.where(IncidentAlert.incident_id == incident.id)):
            other = self._rules.get(alert)
            if labels.get("service") and labels["service"] == others.get("service"):
                return True
            if other is not None and set(rule.runbooks) & set(other.runbooks):
                return True
        return False

    def _is_inhibited(self, t: AlertTransition, rule: Rule, incident: Incident) -> bool:
        source = None if t.drill else inhibitor(self._session, self._inhibitions, t.alert, t.labels)
        if source is None:
            return False
        alert, labels = source
        name = named(alert, self._rules.get(alert), labels)
        text = f"{named(t.alert, rule, t.labels)} is not notified while {name} fires"
        tell(self._session, incident, t.at, "inhibited", text)
        return True

    # --- an alert resolves ------------------------------------------------------------------------------

    def _resolved(self, t: AlertTransition, rule: Rule | None) -> None:
        ended = self._session.execute(_episodes(t).where(IncidentAlert.resolved_at.is_(None))).all()
        for episode, incident in ended:
            self._end(t, rule, episode, incident)
        if not ended:  # about the alerting itself; of a rule that is gone the severity is not known any more
            self.news += [_change(t, severity) for severity in ((rule.severity,) if rule else SEVERITIES)]
        if not t.drill:
            for episode, incident in released(self._session, self._inhibitions, t.alert, t.labels):
                self.news.append(_news(episode, incident))

    def _end(self, t: AlertTransition, rule: Rule | None, episode: IncidentAlert, incident: Incident) -> None:
        episode.resolved_at = t.at
        self.news.append(_news(episode, incident))
        tell(self._session, incident, t.at, "alert_resolved", f"{named(t.alert, rule, t.labels)} resolved")
        firing = select(IncidentAlert.id).where(
            IncidentAlert.incident_id == incident.id, IncidentAlert.resolved_at.is_(None)
        )
        if incident.resolved_at is None and self._session.scalar(firing.limit(1)) is None:
            close(self._session, incident, t.at, self._now_us)


# --- rows and words -------------------------------------------------------------------------------------


def _episodes(t: AlertTransition) -> Select[IncidentAlert, Incident]:
    """The episodes of the transition's instance, with their incidents."""
    return (
        select(IncidentAlert, Incident)
        .join(Incident, Incident.id == IncidentAlert.incident_id)
        .where(IncidentAlert.alert == t.alert, IncidentAlert.labels_key == t.labels_key)
        .where(Incident.drill == t.drill)
    )


def _episode(t: AlertTransition, rule: Rule, incident: Incident) -> IncidentAlert:
    return IncidentAlert(
        incident_id=incident.id,
        alert=t.alert,
        labels_key=t.labels_key,
        labels=t.labels,
        severity=rule.severity,
        pending_at=t.pending_at,
        fired_at=t.at if t.fired_at is None else t.fired_at,
        value=t.value,
    )


def _news(episode: IncidentAlert, incident: Incident) -> Change:
    return Change(
        alert=episode.alert,
        labels=episode.labels,
        severity=episode.severity,
        fired_at=episode.fired_at,
        resolved_at=episode.resolved_at,
        value=episode.value,
        incident_id=incident.id,
        drill=incident.drill,
    )


def _change(t: AlertTransition, severity: str) -> Change:
    """A change of an alert that has no incident."""
    fired_at = t.at if t.fired_at is None else t.fired_at
    resolved_at = t.at if t.to == "resolved" else None
    return Change(t.alert, t.labels, severity, fired_at, resolved_at, t.value, None, t.drill)


def _fired_words(t: AlertTransition, rule: Rule) -> str:
    """``High Error Rate (service k12-core) fired: 12.4% (> 5% 5xx responses in 5 min)``."""
    number = measured(_change(t, rule.severity), rule)
    return f"{named(t.alert, rule, t.labels)} fired" + (f": {number}" if number else "")
