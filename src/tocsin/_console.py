"""The ``tocsin`` command: the server's command line, if it is installed."""

from __future__ import annotations

import sys
from importlib import import_module

#: What the `server` extra brings, by import name.
SERVER_PACKAGES = frozenset(
    (
        "alembic",
        "duckdb",
        "fastapi",
        "httpcore",
        "jinja2",
        "markdown_it",
        "nanoarrow",
        "numpy",
        "prometheus_client",
        "psycopg",
        "pydantic",
        "pytz",
        "rich",
        "sqlalchemy",
        "typer",
        "uvicorn",
        "yaml",
        "zstandard",
    )
)

MISSING = 'tocsin: the command line needs the server: pip install "tocsin[server]"'


def main() -> int:
    """Runs the command line and returns its exit code: 2 and one line on stderr if the server is missing."""
    try:
        cli = import_module("tocsin_server.cli")
    except ModuleNotFoundError as error:
        if error.name not in SERVER_PACKAGES:
            raise
        print(MISSING, file=sys.stderr)
        return 2
    return int(cli.main() or 0)
