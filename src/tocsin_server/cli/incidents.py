"""``tocsin incident``: what people work on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tocsin_server.cli.shared import Data, Json, Url, installation, print_json, show

incident = typer.Typer(
    name="incident", help="List, show, acknowledge, note, resolve and export incidents.", no_args_is_help=True
)

Number = Annotated[int, typer.Argument(metavar="N", help="Number of the incident.")]
Who = Annotated[
    str | None, typer.Option("--who", metavar="NAME", help="Who does it. (default: $USER)", envvar="USER")
]


@incident.command("list")
def listing(
    every: Annotated[bool, typer.Option("--all", help="Also the resolved ones.")] = False,
    data: Data = None,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Show the unresolved incidents, newest first."""
    with installation(data, url) as client:
        found = client.get("/api/v1/incidents", all=str(every).lower())
    if as_json:
        print_json(found)
        return
    from tocsin_server.cli.text import incidents_text

    show(incidents_text(found))


@incident.command("show")
def shown(number: Number, data: Data = None, url: Url = None, as_json: Json = False) -> None:
    """Show one incident: whom it affects, likely causes, evidence, timeline."""
    with installation(data, url) as client:
        if as_json:
            print_json(client.get(f"/api/v1/incidents/{number}"))
            return
        document = client.text("GET", f"/api/v1/incidents/{number}/export")
    from rich.markdown import Markdown

    show(Markdown(document))


@incident.command("ack")
def acknowledge(number: Number, who: Who = None, data: Data = None, url: Url = None) -> None:
    """Say that somebody works on it."""
    _act(number, "ack", "", who, data, url)


@incident.command()
def note(
    number: Number,
    text: Annotated[str, typer.Argument(metavar="TEXT", help="What to write down.")],
    who: Who = None,
    data: Data = None,
    url: Url = None,
) -> None:
    """Write something into the timeline."""
    _act(number, "note", text, who, data, url)


@incident.command()
def resolve(number: Number, who: Who = None, data: Data = None, url: Url = None) -> None:
    """Close it; alerts that still fire stay visible."""
    _act(number, "resolve", "", who, data, url)


@incident.command()
def export(
    number: Number,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Write here. (default: stdout)")
    ] = None,
    data: Data = None,
    url: Url = None,
) -> None:
    """Print the whole incident as one Markdown document that is safe to share."""
    with installation(data, url) as client:
        document = client.text("GET", f"/api/v1/incidents/{number}/export")
    if out is None:
        print(document, end="")
    else:
        out.write_text(document)


def _act(number: int, action: str, text: str, who: str | None, data: Path | None, url: str | None) -> None:
    with installation(data, url) as client:
        after = client.post(f"/api/v1/incidents/{number}/{action}", {"text": text, "who": who})
    print(f"incident {number}: {'noted; it ' if action == 'note' else ''}is {after['status']}")
