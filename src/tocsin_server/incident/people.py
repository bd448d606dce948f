"""What people do with an incident. Who did it is in the audit log before it is done."""

from __future__ import annotations

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from tocsin_server.clock import iso
from tocsin_server.errors import TocsinError
from tocsin_server.incident.records import close, found, tell
from tocsin_server.state.tables import AuditEntry, Incident, IncidentAlert

MAX_NOTE_CHARACTERS = 10_000


def acknowledge(session: Session, incident_id: int, who: str, now_us: int) -> None:
    """Somebody works on it. A second person may say so too; the first stays the one who acknowledged.

    Raises TocsinError when there is no such incident, or when it is resolved.
    """
    incident = _unresolved(session, incident_id)
    _audit(session, incident, who, now_us, "incident.acknowledge", {})
    if incident.status == "open":
        incident.status, incident.acknowledged_at, incident.acknowledged_by = "acknowledged", now_us, who
    tell(session, incident, now_us, "acknowledged", f"Acknowledged by {who}", who)


def note(session: Session, incident_id: int, who: str, text: str, now_us: int) -> None:
    """Adds a note to the timeline, also after the end. Raises TocsinError when it is empty or too long."""
    incident = found(session, incident_id)
    if not text.strip() or len(text) > MAX_NOTE_CHARACTERS:
        raise TocsinError(f"a note has 1 to {MAX_NOTE_CHARACTERS} characters, not {len(text.strip())}")
    _audit(session, incident, who, now_us, "incident.note", {"text": text})
    tell(session, incident, now_us, "note", text, who)


def resolve(session: Session, incident_id: int, who: str, now_us: int) -> None:
    """Closes the incident; alerts that still fire stay in it as firing, and say so.

    Raises TocsinError when there is no such incident, or when it is resolved.
    """
    incident = _unresolved(session, incident_id)
    firing = session.scalar(
        select(func.count()).where(
            IncidentAlert.incident_id == incident.id, IncidentAlert.resolved_at.is_(None)
        )
    )
    _audit(session, incident, who, now_us, "incident.resolve", {"still_firing": firing})
    close(session, incident, now_us, now_us, who)
    if firing:
        verb = "alert still fires" if firing == 1 else "alerts still fire"
        tell(session, incident, now_us, "note", f"{firing} {verb}: the alerts page shows which", who)


def _unresolved(session: Session, incident_id: int) -> Incident:
    incident = found(session, incident_id)
    if incident.resolved_at is not None:
        at = iso(incident.resolved_at)
        raise TocsinError(f"incident {incident_id} was resolved at {at}: add a note instead")
    return incident


def _audit(
    session: Session, incident: Incident, who: str, now_us: int, action: str, detail: dict[str, object]
) -> None:
    if not who.strip():
        raise TocsinError("it is not said who does this: give a name")
    entry = AuditEntry(at=now_us, who=who, action=action, subject=f"incident {incident.id}", detail=detail)
    session.add(entry)
    session.flush()
