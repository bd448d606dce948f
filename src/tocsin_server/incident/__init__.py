"""Incidents: what people work on when an alert fires.

:func:`step` turns transitions into incidents, runbook runs and news for the notifier; people acknowledge,
note and resolve; :func:`show` is the whole story of one, :func:`export_markdown` the same as a document.
"""

from tocsin_server.incident.consume import step
from tocsin_server.incident.document import export_markdown
from tocsin_server.incident.people import acknowledge, note, resolve
from tocsin_server.incident.shown import listing, show

__all__ = ["acknowledge", "export_markdown", "listing", "note", "resolve", "show", "step"]
