"""``tocsin runbook``: documents that people read and Tocsin executes."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from tocsin_server.cli.shared import Data, Json, Url, installation, print_json, show
from tocsin_server.errors import TocsinError

runbook = typer.Typer(name="runbook", help="List, check and run runbooks.", no_args_is_help=True)


@runbook.command("list")
def listing(data: Data = None, url: Url = None, as_json: Json = False) -> None:
    """Show the runbooks and the alerts that link to them."""
    with installation(data, url) as client:
        found = client.get("/api/v1/runbooks")
    if as_json:
        print_json(found)
        return
    from tocsin_server.cli.text import runbooks_text

    show(runbooks_text(found))


@runbook.command()
def lint(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[FOLDER…]", help="Runbooks. (default: ./docs/runbooks, else the shipped)"),
    ] = None,
    as_json: Json = False,
) -> None:
    """Check runbooks: every fault at once, with file, line and what to do."""
    from tocsin_server.check import runbook_faults

    faults = runbook_faults(paths or None, datetime.now(UTC).date())
    if as_json:
        print_json({"faults": [fault.as_json() for fault in faults]})
    else:
        for fault in faults:
            print(fault)
        print(f"{len(faults)} fault{'' if len(faults) == 1 else 's'}", file=sys.stderr)
    if faults:
        raise typer.Exit(1)


@runbook.command()
def run(
    name: Annotated[str, typer.Argument(metavar="ID", help="Id of the runbook.")],
    inputs: Annotated[
        list[str] | None, typer.Option("--input", metavar="k=v", help="An input; may be repeated.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be asked, ask nothing.")
    ] = False,
    data: Data = None,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Run a runbook's read-only steps now, and show what they found and the likely causes."""
    from tocsin_server.client import segment

    given = dict(_input(text) for text in inputs or [])
    with installation(data, url) as client:
        report = client.post(f"/api/v1/runbooks/{segment(name)}/run", {"inputs": given, "dry_run": dry_run})
    if as_json:
        print_json(report)
        return
    from tocsin_server.cli.text import runbook_text

    show(runbook_text(report))


def _input(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise TocsinError(f"{text!r} is no input: write --input name=value")
    return name, value
