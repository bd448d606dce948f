"""The ``tocsin`` command: arguments in, one function of the library, rows or JSON out.

Exit codes: 0 for success, 1 for "the answer is no" (faults found), 2 for wrong use. An error is one line on
stderr that says what to do next.
"""

from __future__ import annotations

import os
import sys
from importlib import metadata
from typing import Annotated

import typer
from typer.exceptions import Abort, TyperException

from tocsin_server.cli import data, server
from tocsin_server.cli.incidents import incident
from tocsin_server.cli.runbooks import runbook
from tocsin_server.cli.shared import say
from tocsin_server.cli.silences import silence
from tocsin_server.errors import TocsinError

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Turns the JSON lines that services already print into metrics, alerts, dashboards and incidents.",
)
for command in (*server.COMMANDS, *data.COMMANDS):
    app.command()(command)
for group in (incident, runbook, silence):
    app.add_typer(group)


def main() -> int:
    """Runs the command line; answers its exit code."""
    try:
        return int(app(standalone_mode=False) or 0)
    except TocsinError as error:
        return _fail(str(error))
    except Abort:
        return _fail("interrupted")
    except TyperException as error:
        if not error.format_message():
            return 2  # no command was given, and Typer has shown the help
        return _fail(f"{error.format_message()} (see `tocsin --help`)")
    except BrokenPipeError:  # the reader of our output has gone: nobody is left to tell
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:  # a full disk, a folder that is gone: what was answered for is durable
        return _fail(f"{error}; correct that and run the command again")


def _fail(message: str) -> int:
    say(message)
    return 2


def _version(wanted: bool) -> None:
    if wanted:
        print(f"tocsin {metadata.version('tocsin')}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass
