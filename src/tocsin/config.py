"""The settings: one table, read by ``configure``, by the documentation's test and by the environment.

An argument wins over the environment variable, which wins over the default.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple

from tocsin.errors import ConfigurationError

#: Longest name of a service or an environment, in characters.
NAME_CHARACTERS = 200

#: Shortest pseudonym key, in characters: below that a key can be guessed and pseudonyms be undone.
KEY_CHARACTERS = 16

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


_CHECKS = {"name": _name, "boolean": _boolean, "key": _key}
