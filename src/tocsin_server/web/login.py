"""Logging in with the token, and out again."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from tocsin_server.web.forms import form
from tocsin_server.web.render import page
from tocsin_server.web.security import safe_next, session_secret, token_fits
from tocsin_server.web.services import Services
from tocsin_server.web.sessions import COOKIE, LIFETIME_US, Sessions

_MAX_NAME = 60


async def login_form(request: Request) -> Response:
    """The form; it says the same to everybody."""
    return HTMLResponse(_form(request.query_params.get("next", "/"), failed=False))


async def login(request: Request) -> Response:
    """Opens a session for the right token; the name is what the timeline shows, not a proof."""
    services, sessions = _parts(request)
    fields = await form(request)
    if not token_fits(fields.get("token", "").strip(), services):
        return HTMLResponse(_form(fields.get("next", "/"), failed=True), 401)
    who = " ".join(fields.get("name", "").split())[:_MAX_NAME] or "operator"
    response = RedirectResponse(safe_next(fields.get("next", "/")), 303)
    response.set_cookie(
        COOKIE,
        sessions.open(who),
        max_age=LIFETIME_US // 1_000_000,
        path="/",
        httponly=True,
        samesite="lax",
        secure=(services.settings.listen.url or "").startswith("https://"),
    )
    return response


async def logout(request: Request) -> Response:
    """Ends the session here, not only in the browser."""
    _, sessions = _parts(request)
    sessions.close(session_secret(request.headers))
    response = RedirectResponse("/login", 303)
    response.delete_cookie(COOKIE, path="/")
    return response


def _parts(request: Request) -> tuple[Services, Sessions]:
    return request.app.state.services, request.app.state.sessions


def _form(next_path: str, *, failed: bool) -> str:
    return page("login.html", {"next": safe_next(next_path), "failed": failed})
