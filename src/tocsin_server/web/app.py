"""The web application: the gate, the pages with their twins, the actions, the exports, the API."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any

import duckdb
from fastapi import FastAPI
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response

from tocsin_server.errors import TocsinError
from tocsin_server.export.rows import as_csv, as_json
from tocsin_server.incident import export_markdown
from tocsin_server.web.actions import POSTS, Post
from tocsin_server.web.api import json_errors, router
from tocsin_server.web.forms import form
from tocsin_server.web.login import login, login_form, logout
from tocsin_server.web.pages import NAVIGATION, PAGES, Page
from tocsin_server.web.params import BadRequest, NotFound, Params
from tocsin_server.web.render import page as rendered
from tocsin_server.web.security import HEADERS, Gate
from tocsin_server.web.services import Services
from tocsin_server.web.sessions import Sessions
from tocsin_server.web.static_files import static
from tocsin_server.web.views.explore import exported
from tocsin_server.web.views.incidents import shown_incident

_log = logging.getLogger(__name__)
Endpoint = Callable[[Request], Awaitable[Response]]


def create_app(services: Services) -> FastAPI:
    """The application that uvicorn serves."""
    app = FastAPI(
        title="Tocsin",
        docs_url=None,
        redoc_url=None,
        openapi_url="/api/v1/openapi.json",
        redirect_slashes=False,
    )
    app.state.services, app.state.sessions = services, Sessions(services.clock)
    app.add_middleware(GZipMiddleware, minimum_size=1000)
    app.add_middleware(Gate, services=services, sessions=app.state.sessions)
    for path, endpoint in _reads():
        app.add_route(path, endpoint, methods=["GET"])
    for post in POSTS:
        app.add_route(post.path, _doing(post), methods=["POST"])
    app.add_route("/login", login, methods=["POST"])
    app.add_route("/logout", logout, methods=["POST"])
    for kind, handler in _PROBLEMS.items():
        app.add_exception_handler(kind, handler)
    app.include_router(router)
    json_errors(app)
    return app


def _reads() -> list[tuple[str, Endpoint]]:
    """Every path that only reads. Twins come first: ``/alerts/{name}`` would take ``/alerts/X.json``."""
    twins = [(page.twin, _twin(page)) for page in PAGES]
    pages = [(page.path, _page(page)) for page in PAGES]
    exports: list[tuple[str, Endpoint]] = [
        ("/explore/export.csv", _export_csv),
        ("/explore/export.json", _export_json),
        ("/incidents/{id}.md", _incident_markdown),
        ("/incidents/{id}.html", _incident_html),
    ]
    others: list[tuple[str, Endpoint]] = [
        ("/login", login_form),
        ("/static/{name:path}", static),
        ("/healthz", _healthz),
    ]
    return [*twins, *exports, *pages, *others]


# --- endpoints ------------------------------------------------------------------------------------------


def _page(page: Page) -> Endpoint:
    async def endpoint(request: Request) -> Response:
        html = await run_in_threadpool(
            lambda: rendered(page.template, _data(page, request), **_about(page, request))
        )
        return HTMLResponse(html)

    return endpoint


def _twin(page: Page) -> Endpoint:
    async def endpoint(request: Request) -> Response:
        return JSONResponse(await run_in_threadpool(_data, page, request))

    return endpoint


def _doing(post: Post) -> Endpoint:
    async def endpoint(request: Request) -> Response:
        fields = await form(request)
        target = await run_in_threadpool(
            post.action, _services(request), _params(request), fields, _who(request)
        )
        return RedirectResponse(target, 303)

    return endpoint


async def _export_csv(request: Request) -> Response:
    result = await run_in_threadpool(exported, _services(request), _params(request))
    return Response(as_csv(result), media_type="text/csv; charset=utf-8", headers=_attachment("events.csv"))


async def _export_json(request: Request) -> Response:
    result = await run_in_threadpool(exported, _services(request), _params(request))
    return Response(as_json(result), media_type="application/json", headers=_attachment("events.json"))


async def _incident_markdown(request: Request) -> Response:
    shown = await run_in_threadpool(shown_incident, _services(request), _params(request))
    name = f"incident-{request.path_params['id']}.md"
    return Response(
        export_markdown(shown), media_type="text/markdown; charset=utf-8", headers=_attachment(name)
    )


async def _incident_html(request: Request) -> Response:
    shown = await run_in_threadpool(shown_incident, _services(request), _params(request))
    html = rendered("incident_export.html", {"id": shown["id"], "markdown": export_markdown(shown)})
    return HTMLResponse(html, headers=_attachment(f"incident-{request.path_params['id']}.html"))


async def _healthz(request: Request) -> Response:
    """That the process answers; strangers learn no more."""
    return JSONResponse({"status": "ok"})


def _attachment(name: str) -> dict[str, str]:
    return {"content-disposition": f'attachment; filename="{name}"'}


# --- what they share ------------------------------------------------------------------------------------


def _services(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


def _params(request: Request) -> Params:
    return Params(tuple(request.query_params.multi_items()), dict(request.path_params))


def _data(page: Page, request: Request) -> dict[str, Any]:
    return page.view(_services(request), _params(request))


def _who(request: Request) -> str:
    return str(request.scope.get("state", {}).get("who") or "local")


def _about(page: Page, request: Request) -> dict[str, Any]:
    """What base.html needs besides the data."""
    query = request.url.query
    return {
        "title": page.title,
        "place": page.place,
        "navigation": NAVIGATION,
        "twin": request.url.path.rstrip("/") + ".json" if request.url.path != "/" else page.twin,
        "request_path": request.url.path,
        "query": f"?{query}" if query else "",
        "refreshes": page.refreshes,
        "who": _who(request),
        "can_log_out": _services(request).token is not None,
    }


# --- problems -------------------------------------------------------------------------------------------


async def _problem(request: Request, error: Exception) -> Response:
    """A calm page, or JSON for programs; never a stack trace. The log has the rest."""
    status, text = _status_of(error)
    if status == 500:
        _log.error("%s failed", request.url.path, exc_info=error)
    headers = dict(HEADERS) | {"cache-control": "no-store"}
    if "text/html" not in request.headers.get("accept", "") or request.url.path.startswith("/api/"):
        return JSONResponse({"error": text}, status, headers)
    about = _about(_NOWHERE, request)
    return HTMLResponse(rendered("problem.html", {"status": status, "text": text}, **about), status, headers)


def _status_of(error: Exception) -> tuple[int, str]:
    if isinstance(error, NotFound):
        return 404, str(error)
    if isinstance(error, BadRequest | TocsinError):
        return 400, str(error)
    if isinstance(error, HTTPException):
        words = {404: "there is nothing at this address: the menu leads on"}
        return error.status_code, words.get(error.status_code, str(error.detail))
    if isinstance(error, duckdb.Error):
        return 503, "the events could not be read just now: try again, and look at /sources"
    return 500, "something went wrong here; the server's log says what. Try again"


_NOWHERE = Page("/", "problem.html", lambda _services, _params: {}, "Problem", "", refreshes=False)
_PROBLEMS: dict[Any, Any] = dict.fromkeys(
    (TocsinError, BadRequest, NotFound, HTTPException, duckdb.Error, Exception), _problem
)
