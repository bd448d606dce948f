"""The settings: one table, read by ``configure``, by the documentation's test and by the environment.

An argument wins over the environment variable, which wins over the default.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple

from tocsin.errors import ConfigurationError

#: Longest name of a service or an environment, in characters.
NAME_CHARACTERS = 200

#: Shortest pseudonym key, in characters: below that a key can be guessed and pseudonyms be undone.
KEY_CHARACTERS = 16

LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")

_BOOLEANS = {
    "1": True,
    "true": True,
    "yes": True,
    "on": True,
    "0": False,
    "false": False,
    "no": False,
    "off": False,
}


def _setting(kind: str, default: object, help: str, **options: Any) -> Any:
    return field(default=default, metadata={"kind": kind, "help": help}, **options)


@dataclass(frozen=True, slots=True)
class Settings:
    """What ``configure`` takes. Each field is one row of the table."""

    service: str | None = _setting("name", None, "the program that prints the lines, such as `k12-core`")
    environment: str | None = _setting("name", None, "`production`, `staging`, …")
    enabled: bool = _setting("boolean", True, "whether lines are written at all")
    pseudonym_key: str | None = _setting(
        "key",
        None,
        "secret under which user ids become pseudonyms, one for all processes whose pseudonyms must agree; "
        "absent: random for each process",
        repr=False,
    )
    log_level: str | None = _setting(
        "level", None, "from which level on records of `logging` are printed; absent: `logging` is left alone"
    )
    format: str = _setting(
        "format", "json", "`json`, or `text` for people at a terminal, which Tocsin cannot read"
    )
    heartbeat_s: float = _setting(
        "seconds", 0.0, "how often a `log.heartbeat` is printed, such as 60; 0: only after lines were lost"
    )
    collector_url: str | None = _setting(
        "url", None, "address of a Tocsin that takes the lines in the place of standard output"
    )
    collector_token: str | None = _setting("key", None, "the token that it asks for", repr=False)
    statsd: str | None = _setting(
        "address", None, "`host:port` of a DogStatsD agent that gets the metrics, too"
    )
    flush_on_sigterm: bool = _setting(
        "boolean", False, "whether SIGTERM, where nobody handles it, first writes what is waiting"
    )


class Setting(NamedTuple):
    """One row of the settings table."""

    name: str
    kind: str
    default: object
    help: str

    @property
    def variable(self) -> str:
        """The environment variable that sets it."""
        return f"TOCSIN_{self.name.upper()}"


#: The settings table, in the order of ``Settings``.
SETTINGS = tuple(Setting(f.name, f.metadata["kind"], f.default, f.metadata["help"]) for f in fields(Settings))


def resolve(arguments: Mapping[str, object], environ: Mapping[str, str]) -> Settings:
    """The settings from ``arguments`` (None: not given) and ``environ``.

    Raises :class:`ConfigurationError` with all faults at once.
    """
    values: dict[str, Any] = {}
    faults: list[str] = []
    for setting in SETTINGS:
        origin, raw = _given(setting, arguments, environ)
        if raw is None:
            continue
        try:
            values[setting.name] = _CHECKS[setting.kind](raw)
        except ValueError as fault:
            faults.append(f"{origin} {fault}")
    if faults:
        raise ConfigurationError(faults)
    return Settings(**values)


def _given(
    setting: Setting, arguments: Mapping[str, object], environ: Mapping[str, str]
) -> tuple[str, object]:
    """Where the value comes from, and the value; an empty environment variable counts as absent."""
    if arguments.get(setting.name) is not None:
        return setting.name, arguments[setting.name]
    return setting.variable, environ.get(setting.variable) or None


def _name(raw: object) -> str:
    if not isinstance(raw, str):
        raise ValueError(f"must be text, not {type(raw).__name__}")
    if not raw or len(raw) > NAME_CHARACTERS or not raw.isprintable():
        raise ValueError(f"must be 1 to {NAME_CHARACTERS} printable characters")
    return raw


def _boolean(raw: object) -> bool:
    if isinstance(raw, bool):
        return raw
    if isinstance(raw, str) and raw.lower() in _BOOLEANS:
        return _BOOLEANS[raw.lower()]
    raise ValueError(f"must be true or false, not {raw!r}")


def _key(raw: object) -> str:
    """Checks a secret; its faults never show the value."""
    if not isinstance(raw, str):
        raise ValueError(f"must be text, not {type(raw).__name__}")
    if len(raw) < KEY_CHARACTERS or not raw.isprintable():
        raise ValueError(
            f"must be at least {KEY_CHARACTERS} printable characters; make one with "
            "python -c 'import secrets; print(secrets.token_hex(32))'"
        )
    return raw


def _level(raw: object) -> str:
    if isinstance(raw, str) and raw.upper() in LEVELS:
        return raw.upper()
    raise ValueError(f"must be one of {', '.join(LEVELS)}, not {raw!r}")


def _format(raw: object) -> str:
    if raw in ("json", "text"):
        return str(raw)
    raise ValueError(f"must be json or text, not {raw!r}")


def _seconds(raw: object) -> float:
    try:
        seconds = float(raw)  # type: ignore[arg-type]  # whatever it is
    except (TypeError, ValueError):
        seconds = -1.0
    if isinstance(raw, bool) or not (seconds == 0 or 1 <= seconds <= 86_400):
        raise ValueError(f"must be 0 or a number of seconds from 1 to 86400, not {raw!r}")
    return seconds


def _url(raw: object) -> str:
    if isinstance(raw, str) and raw.isprintable() and raw.startswith(("http://", "https://")):
        return raw
    raise ValueError("must be an address such as https://tocsin.example.org")


def _address(raw: object) -> str:
    if isinstance(raw, str) and raw.isprintable():
        host, colon, port = raw.rpartition(":")
        if host and colon and port.isdecimal() and 0 < int(port) < 65_536:
            return raw
    raise ValueError("must be host:port, such as 127.0.0.1:8125")


_CHECKS: dict[str, Callable[[object], object]] = {
    "name": _name,
    "boolean": _boolean,
    "key": _key,
    "level": _level,
    "format": _format,
    "seconds": _seconds,
    "url": _url,
    "address": _address,
}
