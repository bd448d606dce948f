"""``tocsin init``: the shipped alerts and runbooks as files to be made one's own, and a first tocsin.yaml."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from tocsin_server.errors import TocsinError
from tocsin_server.resources import alert_rules, runbooks

_SETTINGS = """\
# Settings of `tocsin up`; `tocsin check` finds every fault. Relative paths are relative to this file.
data: ./tocsin-data
rules: ./ops/alerts
runbooks: ./docs/runbooks

# Log files to follow. Lines that name no service get this one.
sources: []
#  - {file: "/var/log/k12/*.log", service: k12-core}

# Services whose silence is an alert.
expect: []

# Health checks, and what a healthy answer is.
probes: []
#  - {http: "https://gateway.example.org/v1/health", target: ai-gateway, expect: {json: {status: ok}}}

# What runbooks may ask, read-only; `auto: true` lets them ask by themselves when an alert fires.
connections: {}
#  core: {http: "https://core.example.org", auto: true}

# Who is told. Secrets stand in the environment or in files, never here.
notify:
  channels: {}
#    oncall: {email: {to: oncall@example.org, smtp: {env: SMTP_URL}}}
#    chat: {webhook: {url: {env: CHAT_URL}, secret: {env: CHAT_SECRET}}}
  routes: []
#    - {severity: critical, to: [oncall]}

retention: {raw: 30d}
"""


def write(folder: Path) -> Iterator[Path]:
    """Writes what is not there yet, and answers each file written. Raises TocsinError when nothing is."""
    parts = {folder / "ops" / "alerts": alert_rules(), folder / "docs" / "runbooks": runbooks()}
    planned = {
        target / path.name: path
        for target, source in parts.items()
        for path in sorted(source.iterdir())
        if path.suffix in (".yaml", ".md")
    }
    settings = folder / "tocsin.yaml"
    missing = [path for path in (settings, *planned) if not path.exists()]
    if not missing:
        raise TocsinError(
            f"{settings} and the catalogue are there already: edit them, or name another folder"
        )
    for path in missing:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path == settings:
            path.write_text(_SETTINGS)
        else:
            shutil.copyfile(planned[path], path)
        yield path
