"""Settings: one table, one order of precedence, all faults at once."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

import tocsin
from tocsin.config import SETTINGS, Settings, resolve
from tocsin.emitter import current
from tocsin.errors import ConfigurationError

DOCS = Path(__file__).parents[2] / "docs" / "emitter.md"
KEY = "0123456789abcdef"


def test_arguments_win_over_the_environment_which_wins_over_defaults() -> None:
    environ = {"TOCSIN_SERVICE": "from-environ", "TOCSIN_ENVIRONMENT": "staging", "TOCSIN_ENABLED": ""}
    settings = resolve({"service": "given", "environment": None}, environ)
    assert settings == Settings(service="given", environment="staging", enabled=True, pseudonym_key=None)


@pytest.mark.parametrize(
    ("raw", "value"), [("0", False), ("false", False), ("OFF", False), ("1", True), ("yes", True)]
)
def test_booleans_in_the_environment(raw: str, value: bool) -> None:
    assert resolve({}, {"TOCSIN_ENABLED": raw}).enabled is value


def test_all_faults_at_once_with_what_to_write_instead() -> None:
    with pytest.raises(ConfigurationError) as caught:
        resolve(
            {"service": 7, "environment": "a\nb"},
            {"TOCSIN_ENABLED": "maybe", "TOCSIN_PSEUDONYM_KEY": "hunter2"},
        )
    assert str(caught.value) == (
        "4 settings are wrong: service must be text, not int; "
        "environment must be 1 to 200 printable characters; "
        "TOCSIN_ENABLED must be true or false, not 'maybe'; "
        "TOCSIN_PSEUDONYM_KEY must be at least 16 printable characters; "
        "make one with python -c 'import secrets; print(secrets.token_hex(32))'"
    )
    assert len(caught.value.faults) == 4
    assert isinstance(caught.value, ValueError)


def test_a_secret_is_never_shown() -> None:
    assert KEY not in repr(Settings(pseudonym_key=KEY))


def test_configure_takes_exactly_the_settings_and_a_sink() -> None:
    assert list(inspect.signature(tocsin.configure).parameters) == [s.name for s in SETTINGS] + [
        "sink",
        "exporters",
    ]


def test_configure_sets_up_the_emitter() -> None:
    lines: list[bytes] = []
    tocsin.configure(service="k12-core", pseudonym_key=KEY, sink=lines.extend)
    tocsin.emit("custom")
    assert tocsin.flush()
    assert b'"service":"k12-core"' in lines[0]
    tocsin.configure(enabled=False, sink=lines.extend)
    tocsin.emit("custom")
    assert tocsin.flush()
    assert len(lines) == 1


def test_a_wrong_call_leaves_the_emitter_as_it_was() -> None:
    tocsin.configure(service="k12-core")
    with pytest.raises(ConfigurationError):
        tocsin.configure(service="")
    assert current().settings.service == "k12-core"


def test_without_configure_the_environment_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOCSIN_SERVICE", "k12-worker")
    assert current().settings.service == "k12-worker"


def test_without_configure_a_wrong_environment_does_not_raise(
    monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    monkeypatch.setenv("TOCSIN_ENABLED", "maybe")
    tocsin.emit("custom")
    tocsin.emit("custom")
    assert tocsin.flush()
    printed = capfdbinary.readouterr()
    assert printed.out.count(b"\n") == 2
    assert printed.err.decode() == (
        "tocsin: 1 setting is wrong: TOCSIN_ENABLED must be true or false, not 'maybe'; the defaults apply\n"
    )


def test_the_documentation_lists_every_setting() -> None:
    rows = [line for line in DOCS.read_text().splitlines() if "| `TOCSIN_" in line]
    for setting, row in zip(SETTINGS, rows, strict=True):
        default = {None: "none", True: "true", False: "false"}.get(setting.default, setting.default)
        assert row == f"| `{setting.name}` | `{setting.variable}` | {default} | {setting.help} |"
