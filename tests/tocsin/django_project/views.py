from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

from asgiref.sync import sync_to_async
from django.contrib.auth import authenticate, login
from django.core.exceptions import PermissionDenied, SuspiciousOperation
from django.http import FileResponse, Http404, HttpResponse, StreamingHttpResponse
from django.utils.functional import SimpleLazyObject
from django.views import View

import tocsin


def show(request: Any, course_id: int) -> HttpResponse:
    tocsin.log("INFO", "shown")
    return HttpResponse("course")


class Courses(View):
    def get(self, request: Any) -> HttpResponse:
        return HttpResponse("courses")

    def post(self, request: Any) -> HttpResponse:
        return HttpResponse("made", status=201)


class Reports:
    """A viewset as the REST framework makes its view functions: with the class and the actions on them."""

    @classmethod
    def as_view(cls, actions: dict[str, str]) -> Any:
        def view(request: Any) -> HttpResponse:
            return HttpResponse(actions[request.method.lower()])

        view.cls = cls  # type: ignore[attr-defined]
        view.actions = actions  # type: ignore[attr-defined]
        return view


def broken(request: Any) -> HttpResponse:
    raise LookupError("Zorquil Vexmar has no grade")


async def broken_async(request: Any) -> HttpResponse:
    raise LookupError("Zorquil Vexmar has no grade")


def refused(request: Any, kind: str) -> HttpResponse:
    raise {"missing": Http404, "denied": PermissionDenied, "suspicious": SuspiciousOperation}[kind]("Zorquil")


def stream(request: Any) -> StreamingHttpResponse:
    def pieces() -> Iterator[str]:
        for piece in "abc":
            tocsin.log("INFO", "piece")
            yield piece

    return StreamingHttpResponse(pieces())


def broken_stream(request: Any) -> StreamingHttpResponse:
    def pieces() -> Iterator[str]:
        yield "a"
        raise LookupError("Zorquil")

    return StreamingHttpResponse(pieces())


def endless(request: Any) -> StreamingHttpResponse:
    def pieces() -> Iterator[bytes]:
        while True:
            yield b"x" * 65536

    return StreamingHttpResponse(pieces())


async def stream_async(request: Any) -> StreamingHttpResponse:
    async def pieces() -> AsyncIterator[str]:
        for piece in "abc":
            tocsin.log("INFO", "piece")
            yield piece

    return StreamingHttpResponse(pieces())


async def endless_async(request: Any) -> StreamingHttpResponse:
    async def pieces() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 65536
            await asyncio.sleep(0)

    return StreamingHttpResponse(pieces())


async def slow(request: Any) -> HttpResponse:
    tocsin.log("INFO", "waiting")
    await asyncio.Event().wait()
    return HttpResponse()


async def annotating(request: Any) -> HttpResponse:
    await sync_to_async(tocsin.annotate)(tenant_id=7)
    return HttpResponse()


def file(request: Any) -> FileResponse:
    return FileResponse(Path(__file__).open("rb"))


def me(request: Any) -> HttpResponse:
    request.user.is_authenticated  # noqa: B018  # loads the user
    return HttpResponse("me")


def anyone(request: Any) -> HttpResponse:
    def load() -> Any:
        raise AssertionError("was loaded")

    request.tenant = SimpleLazyObject(load)
    return HttpResponse("anyone")


def of_tenant(request: Any) -> HttpResponse:
    request.tenant_id = 7
    return HttpResponse("tenant")


def log_in(request: Any) -> HttpResponse:
    user = authenticate(request, username=request.POST["username"], password=request.POST["password"])
    if user is None:
        return HttpResponse(status=401)
    login(request, user)
    return HttpResponse()


def callback(request: Any) -> HttpResponse:
    with tocsin.auth.login("saml") as attempt:
        attempt.tenant_id = 7
        return log_in(request)
