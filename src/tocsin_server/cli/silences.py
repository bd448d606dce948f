"""``tocsin silence``: no notifications for a while; evaluation, incidents and evidence go on."""

from __future__ import annotations

from typing import Annotated

import typer

from tocsin_server.cli.shared import Data, Json, Url, installation, print_json, show

silence = typer.Typer(name="silence", help="Add, list and expire silences.", no_args_is_help=True)

Who = Annotated[
    str | None, typer.Option("--who", metavar="NAME", help="Who does it. (default: $USER)", envvar="USER")
]


@silence.command()
def add(
    matchers: Annotated[list[str], typer.Argument(metavar="name=value…", help="Labels; also != =~ !~.")],
    until: Annotated[str, typer.Option("--until", metavar="T", help="End: ISO 8601, or now+2h.")],
    comment: Annotated[str, typer.Option("--comment", metavar="TEXT", help="Why.")],
    start: Annotated[str, typer.Option("--from", metavar="T", help="Start, ISO 8601.")] = "now",
    who: Who = None,
    data: Data = None,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Send no notifications about alerts whose labels match, until a time."""
    body = {"matchers": matchers, "starts_at": start, "ends_at": until, "comment": comment, "author": who}
    with installation(data, url) as client:
        added = client.post("/api/v1/silences", body)
    if as_json:
        print_json(added)
    else:
        print(f"silence {added['id']} is {added['state']} until {added['ends_at']}")


@silence.command("list")
def listing(
    every: Annotated[bool, typer.Option("--all", help="Also the expired ones.")] = False,
    data: Data = None,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Show silences."""
    with installation(data, url) as client:
        found = client.get("/api/v1/silences", expired=str(every).lower())
    if as_json:
        print_json(found)
        return
    from tocsin_server.cli.text import silences_text

    show(silences_text(found))


@silence.command()
def expire(
    number: Annotated[int, typer.Argument(metavar="N", help="Number of the silence.")],
    data: Data = None,
    url: Url = None,
) -> None:
    """End a silence now."""
    with installation(data, url) as client:
        client.post(f"/api/v1/silences/{number}/expire", {})
    print(f"silence {number} is over")
