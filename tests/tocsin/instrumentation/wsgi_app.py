"""A Flask application for gunicorn, as the documentation says to write it."""

from __future__ import annotations

from collections.abc import Iterator

from flask import Flask, Response

from tocsin.instrumentation.flask import instrument

app = Flask(__name__)
instrument(app)


@app.get("/numbers/<int:number>")
def number(number: int) -> str:
    return str(number)


@app.get("/stream")
def stream() -> Response:
    return Response(iter(["a", "b", "c"]))


@app.get("/endless")
def endless() -> Response:
    def pieces() -> Iterator[bytes]:
        while True:
            yield b"x" * 65536

    return Response(pieces())
