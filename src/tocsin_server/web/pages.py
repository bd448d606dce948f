"""The table of pages. One row: where it is, what it shows, how. An open set."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tocsin_server.web.params import Params
from tocsin_server.web.services import Services
from tocsin_server.web.views.alerts import alert, alerts
from tocsin_server.web.views.deliveries import deliveries
from tocsin_server.web.views.explore import explore
from tocsin_server.web.views.incidents import incidents, one_incident
from tocsin_server.web.views.overview import overview
from tocsin_server.web.views.runbooks import runbook, runbooks
from tocsin_server.web.views.sources import sources


@dataclass(frozen=True, slots=True)
class Page:
    """``path`` answers HTML, ``twin`` the same data as JSON. ``place``: the entry of the navigation that it
    is under; ``refreshes``: whether it is fetched again by itself.
    """

    path: str
    template: str
    view: Callable[[Services, Params], dict[str, Any]]
    title: str
    place: str
    refreshes: bool = True

    @property
    def twin(self) -> str:
        """Where the data is."""
        return "/overview.json" if self.path == "/" else f"{self.path}.json"


PAGES = (
    Page("/", "overview.html", overview, "Overview", "overview"),
    Page("/alerts", "alerts.html", alerts, "Alerts", "alerts"),
    Page("/alerts/{name}", "alert.html", alert, "Alert", "alerts"),
    Page("/incidents", "incidents.html", incidents, "Incidents", "incidents"),
    Page("/incidents/{id}", "incident.html", one_incident, "Incident", "incidents"),
    Page("/runbooks", "runbooks.html", runbooks, "Runbooks", "runbooks", refreshes=False),
    Page("/runbooks/{id}", "runbook.html", runbook, "Runbook", "runbooks"),
    Page("/explore", "explore.html", explore, "Explore", "explore", refreshes=False),
    Page("/deliveries", "deliveries.html", deliveries, "Deliveries", "deliveries"),
    Page("/sources", "sources.html", sources, "Sources", "sources"),
)

#: Entry of the navigation -> (title, path, key after ``g``).
NAVIGATION = {
    "overview": ("Overview", "/", "o"),
    "alerts": ("Alerts", "/alerts", "a"),
    "incidents": ("Incidents", "/incidents", "i"),
    "explore": ("Explore", "/explore", "e"),
    "runbooks": ("Runbooks", "/runbooks", "r"),
    "deliveries": ("Deliveries", "/deliveries", "d"),
    "sources": ("Sources", "/sources", "s"),
}
