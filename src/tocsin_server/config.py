"""``tocsin.yaml``: strict settings. Unknown keys and literal secrets are faults, reported all at once.

Relative paths are relative to the file's folder. Durations are held in microseconds, sizes in bytes.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    StringConstraints,
    Tag,
    ValidationError,
    ValidationInfo,
    model_validator,
)
from pydantic_core import PydanticCustomError

from tocsin_server.clock import SECOND_US
from tocsin_server.durations import Duration, format_duration
from tocsin_server.errors import Fault, FaultsError, TocsinError
from tocsin_server.yamlfile import Document, did_you_mean, load_yaml

DEFAULT_FILE = Path("tocsin.yaml")
DEFAULT_DATA = Path("tocsin-data")

_SIZES = {"B": 1, "kB": 10**3, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_SIZES |= {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}
_SIZE = re.compile(r"(\d{1,15})\s?([A-Za-z]{1,3})", re.ASCII)
_SECRET_HEADER = re.compile(r"authorization|cookie|token|secret|password|api-?key", re.IGNORECASE)


def _wrong(message: str, hint: str) -> PydanticCustomError:
    # The message goes in as a value, so that braces in it are not taken for placeholders.
    return PydanticCustomError("settings", "{message}", {"message": message, "hint": hint})


# --- values -------------------------------------------------------------------------------------------------


def parse_size(text: str) -> int:
    """Bytes of a size with its unit: ``20GB`` (powers of 1000), ``512MiB`` (powers of 1024)."""
    match = _SIZE.fullmatch(text)
    if match is None or match[2] not in _SIZES:
        raise ValueError(f"`{text}` is not a size")
    return int(match[1]) * _SIZES[match[2]]


def _size(value: object) -> int:
    try:
        return parse_size(str(value))
    except ValueError as error:
        raise _wrong(str(error), "write 500MB, 20GB or 16GiB") from None


def _path(value: object, info: ValidationInfo) -> Path:
    if not isinstance(value, str | Path) or not str(value) or "\0" in str(value):
        raise _wrong("should be a path", "write it as text")
    folder: Path = (info.context or {}).get("folder", Path())
    return folder / Path(value).expanduser()


def _url(value: str) -> str:
    try:
        url = urlsplit(value)
        valid = url.scheme in {"http", "https"} and bool(url.hostname) and url.port != 0
    except ValueError:
        valid = False
    if not valid:
        raise _wrong("is not an http or https address", "write https://host/path")
    if url.username or url.password:
        raise _wrong("holds a password", "send it in `headers`: {Authorization: {env: NAME}}")
    return value


def _at_least(minimum_us: int) -> AfterValidator:
    def check(value: int) -> int:
        if value < minimum_us:
            shortest = format_duration(minimum_us)
            raise _wrong(f"is shorter than {shortest}", f"write {shortest} or longer")
        return value

    return AfterValidator(check)


def _like(pattern: str, message: str, hint: str) -> AfterValidator:
    """A text of the form of ``pattern``."""
    form = re.compile(pattern, re.ASCII)

    def check(value: str) -> str:
        if not form.fullmatch(value):
            raise _wrong(message, hint)
        return value

    return AfterValidator(check)


Size = Annotated[int, BeforeValidator(_size, json_schema_input_type=str)]
FilePath = Annotated[Path, BeforeValidator(_path, json_schema_input_type=str)]
Url = Annotated[str, AfterValidator(_url)]
Name = Annotated[
    str, _like(r"[A-Za-z0-9][\w.-]{0,99}", "is not a name", "use letters, digits, `_`, `-` and `.`")
]
EnvironmentName = Annotated[
    str, _like(r"[A-Za-z_]\w*", "is not the name of an environment variable", "write {env: SMTP_URL}")
]
Address = Annotated[
    str, _like(r"[^@\s,<>]+@[^@\s,<>]+", "is not one e-mail address", "write oncall@example.org")
]
HeaderName = Annotated[
    str, _like(r"[\w!#$%&'*+.^`|~-]+", "is not a header's name", "use letters, digits and `-`")
]
HeaderText = Annotated[
    str, _like(r"[\t\x20-\x7e]*", "holds a character that headers cannot carry", "use plain ASCII")
]


# --- the file -----------------------------------------------------------------------------------------------


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Secret(_Part):
    """Where a secret is, never the secret: an environment variable, or a file whose text it is."""

    env: EnvironmentName | None = None
    file: FilePath | None = None

    @model_validator(mode="before")
    @classmethod
    def _is_reference(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            raise _wrong("a secret may not stand in this file", "write {env: NAME} or {file: PATH}")
        if ("env" in value) == ("file" in value):
            raise _wrong("needs either `env` or `file`", "write {env: NAME} or {file: PATH}")
        return value

    def read(self, environ: Mapping[str, str] = os.environ) -> str:
        """The secret, without white space around it. Raises TocsinError when it is not there."""
        if self.env is not None:
            secret = environ.get(self.env, "")
            missing = f"the environment variable {self.env} is not set; set it"
        else:
            secret = _file_text(self.file or Path())
            missing = f"the secret file {self.file} cannot be read or is empty; write the secret into it"
        if not secret.strip():
            raise TocsinError(missing)
        return secret.strip()


def _file_text(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError):
        return ""


def _header_kind(value: object) -> str:
    return "secret" if isinstance(value, dict | Secret) else "text"


HeaderValue = Annotated[
    Annotated[Secret, Tag("secret")] | Annotated[HeaderText, Tag("text")], Discriminator(_header_kind)
]


class Listen(_Part):
    """The address of the web server; without ``token`` it may only be a loopback address. ``url`` is how
    people reach it, for links in notifications.
    """

    host: Annotated[str, StringConstraints(min_length=1)] = "127.0.0.1"
    port: Annotated[int, Field(ge=1, le=65535)] = 8642
    token: Secret | None = None
    url: Url | None = None


class FileSource(_Part):
    """Files to follow (a glob), and what their lines lack."""

    file: FilePath
    service: Name | None = None
    environment: Name | None = None


class ProbeAnswer(_Part):
    """What a healthy target answers: the status, and members of its JSON object."""

    status: Annotated[int, Field(ge=100, le=599)] = 200
    json_members: Annotated[dict[str, str | int | float | bool | None], Field(alias="json")] = {}


class Probe(_Part):
    """A health check; headers that carry credentials must be secrets."""

    http: Url
    target: Name
    every: Annotated[Duration, _at_least(SECOND_US)] = 30 * SECOND_US
    expect: ProbeAnswer = ProbeAnswer()
    headers: dict[HeaderName, HeaderValue] = {}


class Connection(_Part):
    """What a runbook may ask, read-only; ``auto`` lets it do so without a person."""

    postgresql: Secret | None = None
    http: Url | None = None
    auto: bool = False

    @model_validator(mode="after")
    def _is_one_kind(self) -> Connection:
        if (self.postgresql is None) == (self.http is None):
            raise _wrong("needs either `postgresql` or `http`", "write one of them")
        return self


class Email(_Part):
    """Mail to one address over the server of an SMTP URL."""

    to: Address
    smtp: Secret


class Webhook(_Part):
    """JSON posted to an address, signed with ``secret`` (Standard Webhooks)."""

    url: Annotated[
        Annotated[Secret, Tag("secret")] | Annotated[Url, Tag("text")], Discriminator(_header_kind)
    ]
    secret: Secret | None = None


class Channel(_Part):
    """One way to reach people: mail or a webhook."""

    email: Email | None = None
    webhook: Webhook | None = None

    @model_validator(mode="after")
    def _is_one_kind(self) -> Channel:
        if (self.email is None) == (self.webhook is None):
            raise _wrong("needs either `email` or `webhook`", "write one of them")
        return self


class Route(_Part):
    """Which alerts go to which channels; without ``severity``, all."""

    severity: Literal["critical", "warning", "info"] | None = None
    to: Annotated[list[Name], Field(min_length=1)]


class Notify(_Part):
    """Channels by name, and the routes to them."""

    channels: dict[Name, Channel] = {}
    routes: list[Route] = []


class Retention(_Part):
    """How long events are kept, and how many bytes they may take; whole files go, the oldest first."""

    raw: Annotated[Duration, _at_least(86_400 * SECOND_US)] = 30 * 86_400 * SECOND_US
    max_bytes: Size | None = None


class StateDatabase(_Part):
    """Where the operational state is, when not in the data folder: a PostgreSQL URL."""

    postgresql: Secret


class Settings(_Part):
    """The whole of ``tocsin.yaml``; every part has a default.

    ``rules`` and ``runbooks`` are folders (default: ``ops/alerts`` and ``docs/runbooks`` beside the file if
    they exist, else the shipped ones). ``private_hosts`` are names that may resolve to private addresses.
    """

    data: FilePath = DEFAULT_DATA
    state: StateDatabase | None = None
    rules: FilePath | None = None
    runbooks: FilePath | None = None
    private_hosts: list[Name] = []
    listen: Listen = Listen()
    sources: list[FileSource] = []
    expect: list[Name] = []
    probes: list[Probe] = []
    connections: dict[Name, Connection] = {}
    notify: Notify = Notify()
    retention: Retention = Retention()


# --- reading ------------------------------------------------------------------------------------------------


def load_settings(path: Path | None = None) -> Settings:
    """The settings in ``path``; for None those of ``./tocsin.yaml``, or the defaults when it does not exist.

    Raises FaultsError with every fault.
    """
    if path is None and not DEFAULT_FILE.exists():
        return Settings()
    settings, faults = _read(path or DEFAULT_FILE)
    if settings is None or faults:
        raise FaultsError(faults)
    return settings


def check_settings(path: Path) -> list[Fault]:
    """Every fault of a settings file, by line."""
    return _read(path)[1]


def data_dir(
    argument: Path | None = None, settings: Settings | None = None, environ: Mapping[str, str] = os.environ
) -> Path:
    """The data folder: ``argument`` (``--data``), else ``$TOCSIN_DATA``, else the settings' ``data``.

    Without ``settings``, those of ``./tocsin.yaml``; their default is ``./tocsin-data``.
    """
    if argument is not None:
        return argument
    if environ.get("TOCSIN_DATA"):
        return Path(environ["TOCSIN_DATA"])
    return (settings or load_settings()).data


def _read(path: Path) -> tuple[Settings | None, list[Fault]]:
    document, faults = load_yaml(path)
    if document.data is None:
        return None, faults
    settings = None
    try:
        settings = Settings.model_validate(document.data, context={"folder": path.parent})
    except ValidationError as error:
        faults += document.faults_of(error, Settings)
    return settings, sorted(faults + list(_unsafe(document)))


def _unsafe(document: Document) -> Iterator[Fault]:
    """Faults that concern two places at once: routes to unknown channels, headers whose name says secret."""
    root = document.data
    notify = _mapping(root, "notify")
    channels = _mapping(notify, "channels")
    for i, route in enumerate(_sequence(notify, "routes")):
        for j, name in enumerate(_sequence(route, "to")):
            if isinstance(name, str) and name not in channels:
                place = ("notify", "routes", i, "to", j)
                yield document.fault(place, f"there is no channel `{name}`", did_you_mean(name, channels))
    for i, probe in enumerate(_sequence(root, "probes")):
        for name, value in _mapping(probe, "headers").items():
            if _SECRET_HEADER.search(name) and not isinstance(value, dict):
                yield document.fault(
                    ("probes", i, "headers", name),
                    f"`{name}`: a secret may not stand in this file",
                    "write {env: NAME} or {file: PATH}",
                )


def _mapping(parent: object, key: str) -> dict[str, Any]:
    value = parent.get(key) if isinstance(parent, dict) else None
    return value if isinstance(value, dict) else {}


def _sequence(parent: object, key: str) -> list[Any]:
    value = parent.get(key) if isinstance(parent, dict) else None
    return value if isinstance(value, list) else []
