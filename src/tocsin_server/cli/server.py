"""Commands about a running installation: up, demo, status, alerts, why, drill, emit, deploy, notify, init."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tocsin_server.cli.shared import Data, Json, Url, installation, print_json, say, show
from tocsin_server.clock import real_clock
from tocsin_server.config import data_dir, load_settings
from tocsin_server.errors import TocsinError

if TYPE_CHECKING:  # a command imports what it needs when it runs
    from tocsin_server.demo import Prepared

Config = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", help="Settings. (default: ./tocsin.yaml if it exists)"),
]


def up(
    config: Config = None,
    host: Annotated[str | None, typer.Option("--host", help="Address to listen on.")] = None,
    port: Annotated[
        int | None, typer.Option("--port", help="Port; 0 takes a free one.", min=0, max=65535)
    ] = None,
    data: Data = None,
) -> None:
    """Run the server: sources, probes, alerts, runbooks, notifications and the web pages, in one process."""
    from tocsin_server.serving import serve

    settings = load_settings(config)
    serve(settings, data_dir(data, settings), real_clock, host=host, port=port, say=say)


class Outage(StrEnum):
    """Outages that the demo can play."""

    deploy = "deploy"
    sync = "sync"
    auth = "auth"


def demo(
    fault: Annotated[Outage, typer.Option("--fault", help="What is broken.")] = Outage.deploy,
    port: Annotated[int, typer.Option("--port", help="Port; 0 takes a free one.", min=0, max=65535)] = 8642,
) -> None:
    """Run the server on a school morning of recorded Rails lines, with an outage that began minutes ago."""
    from tocsin_server.demo import run
    from tocsin_server.serving import serve

    def served(prepared: Prepared, start_at: int, ready: Callable[[str], None]) -> None:
        settings = load_settings(prepared.settings)
        serve(settings, prepared.data, real_clock, port=port, say=say, start_at=start_at, ready=ready)

    run(Path("tocsin-demo"), fault.value, real_clock, show, served)


def init(
    folder: Annotated[Path, typer.Argument(metavar="[DIR]", help="Where to write.")] = Path(),
) -> None:
    """Write a starter: tocsin.yaml, the alert rules and the runbooks, to be made yours."""
    from tocsin_server.starter import write

    for path in list(write(folder)):  # all of them, whatever happens to who reads this
        print(path)


def status(data: Data = None, url: Url = None, as_json: Json = False) -> None:
    """Whether the server is healthy; exit code 1 when it is not."""
    with installation(data, url) as client:
        about = client.get("/api/v1/status")
    if as_json:
        print_json(about)
    else:
        from tocsin_server.cli.text import status_text

        show(status_text(about))
    if not about["healthy"]:
        raise typer.Exit(1)


def alerts(
    fail: Annotated[bool, typer.Option("--fail", help="Exit code 1 when an alert fires.")] = False,
    data: Data = None,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Show what fires, what is pending, and the state of every rule."""
    with installation(data, url) as client:
        board = client.get("/api/v1/alerts")
    if as_json:
        print_json(board)
    else:
        from tocsin_server.cli.text import alerts_text

        show(alerts_text(board))
    if fail and any(rule["state"] == "firing" and not rule["meta"] for rule in board["rules"]):
        raise typer.Exit(1)


def why(
    alert: Annotated[str, typer.Argument(metavar="ALERT", help="Name of the alert.")],
    at: Annotated[str, typer.Option("--at", metavar="T", help="Instant: ISO 8601, now, now-10m.")] = "now",
    data: Data = None,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Explain why an alert is, or was, what it is; also why it did not fire, or who was not told."""
    from tocsin_server.client import segment

    with installation(data, url) as client:
        told = client.get(f"/api/v1/alerts/{segment(alert)}/why", at=at)
    if as_json:
        print_json(told)
    else:
        from tocsin_server.summary import explained_text

        show(explained_text(told))


def drill(
    alert: Annotated[str, typer.Argument(metavar="ALERT", help="Name of the alert.")],
    data: Data = None,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Walk one alert from marked synthetic events over evidence and notification to its end."""
    from tocsin_server.client import segment

    with installation(data, url) as client:
        report = client.post(f"/api/v1/drills/{segment(alert)}", {})
    if as_json:
        print_json({"drills": [report]})
    else:
        from tocsin_server.cli.text import drill_text

        show(drill_text(report))
    if not report["ok"]:
        raise typer.Exit(1)


def emit(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Event name, like job.completed.")],
    fields: Annotated[list[str] | None, typer.Argument(metavar="k=v…", help="Its fields.")] = None,
    service: Annotated[str | None, typer.Option("--service", help="Service that the event is about.")] = None,
    environment: Annotated[str | None, typer.Option("--environment", help="production, staging, …")] = None,
    data: Data = None,
    url: Url = None,
) -> None:
    """Send one event, from a script."""
    tags = dict(_field(text) for text in fields or [])
    _send({"metric": name, "tags": tags}, service, environment, data, url)
    print(f"{name} is stored")


def deploy(
    service: Annotated[str, typer.Argument(metavar="SERVICE", help="What was deployed.")],
    version: Annotated[str, typer.Argument(metavar="VERSION", help="Which version of it.")],
    environment: Annotated[str | None, typer.Option("--environment", help="production, staging, …")] = None,
    data: Data = None,
    url: Url = None,
) -> None:
    """Mark a deploy: charts, evidence and explanations compare before and after."""
    tags = {"service": service, "version": version, "status": "success"}
    _send({"metric": "deploy", "tags": tags}, service, environment, data, url)
    print(f"deploy of {service} {version} to {environment or 'every environment'} is marked")


def _field(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise TocsinError(f"{text!r} is no field: write name=value")
    try:
        parsed = json.loads(value)
    except ValueError:
        parsed = value
    return name, parsed if isinstance(parsed, bool | int | float | str) else value


def _send(
    event: dict[str, Any], service: str | None, environment: str | None, data: Path | None, url: str | None
) -> None:
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    line = event | {"timestamp": now} | ({"service": service} if service else {})
    line |= {"environment": environment} if environment else {}
    with installation(data, url) as client:
        answer = client.post_lines("/api/v1/ingest?source=cli", json.dumps(line).encode() + b"\n")
    if answer["rejected"]:
        raise TocsinError(f"the event was refused: {answer['rejected'][0]['reason']}; correct its fields")


def notify(
    channel: Annotated[str, typer.Argument(metavar="CHANNEL", help="A channel of tocsin.yaml.")],
    data: Data = None,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Send a test notification to a channel and show what its receiver answered."""
    from tocsin_server.client import segment

    with installation(data, url) as client:
        told = client.post(f"/api/v1/channels/{segment(channel)}/test", {})
    if as_json:
        print_json(told)
    else:
        attempt = told["attempts"][0]
        print(f"{attempt['outcome']} after {attempt['ms']:.0f} ms: {attempt['answer']}")
    if told["status"] != "delivered":
        raise typer.Exit(1)


COMMANDS = (init, up, demo, status, alerts, why, drill, emit, deploy, notify)
