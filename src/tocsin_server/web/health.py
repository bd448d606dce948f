"""What machines ask about this process: ``/readyz`` and ``/metrics``."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from tocsin_server.web.services import Services

router = APIRouter()


@router.get("/readyz", summary="Whether every step of the flow works")
def readyz(request: Request) -> JSONResponse:
    """200 when healthy; 503 with the problems otherwise."""
    services: Services = request.app.state.services
    status = services.status()
    about = {"status": "ok" if status["healthy"] else "failing", "problems": status["problems"]}
    return JSONResponse(about, 200 if status["healthy"] else 503)


@router.get("/metrics", summary="Metrics of this process in Prometheus' text format")
def metrics(request: Request) -> Response:
    """Alerts, evaluation, notifications, incidents and the health of each step."""
    from tocsin_server.web.metrics import CONTENT_TYPE_LATEST, text  # only who is scraped needs the library

    return Response(text(request.app.state.services), media_type=CONTENT_TYPE_LATEST)
