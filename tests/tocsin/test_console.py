"""The console script, with and without the server."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from tocsin import _console

IMPORT_NAMES = {"pyyaml": "yaml", "markdown-it-py": "markdown_it", "prometheus-client": "prometheus_client"}


def import_answers(monkeypatch: pytest.MonkeyPatch, answer: Callable[[str], ModuleType]) -> None:
    monkeypatch.setattr(_console, "import_module", answer)


def test_without_the_server_extra_it_prints_the_pip_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def missing(name: str) -> ModuleType:
        raise ModuleNotFoundError("No module named 'typer'", name="typer")

    import_answers(monkeypatch, missing)
    assert _console.main() == 2
    printed = capsys.readouterr()
    assert printed.err == 'tocsin: the command line needs the server: pip install "tocsin[server]"\n'
    assert printed.out == ""


@pytest.mark.parametrize(
    "error",
    [
        ModuleNotFoundError("No module named 'tocsin_server.rulez'", name="tocsin_server.rulez"),
        ModuleNotFoundError("No module named 'duckdb.nosuch'", name="duckdb.nosuch"),
        ImportError("cannot import name 'x' from 'typer'", name="typer"),
    ],
)
def test_a_broken_import_is_not_mistaken_for_a_missing_extra(
    monkeypatch: pytest.MonkeyPatch, error: ImportError
) -> None:
    def broken(name: str) -> ModuleType:
        raise error

    import_answers(monkeypatch, broken)
    with pytest.raises(ImportError) as caught:
        _console.main()
    assert caught.value is error


@pytest.mark.parametrize(("returned", "code"), [(None, 0), (0, 0), (1, 1)])
def test_it_hands_over_to_the_command_line(
    monkeypatch: pytest.MonkeyPatch, returned: int | None, code: int
) -> None:
    def found(name: str) -> ModuleType:
        assert name == "tocsin_server.cli"
        cli = ModuleType(name)
        cli.main = lambda: returned
        return cli

    import_answers(monkeypatch, found)
    assert _console.main() == code


def test_it_knows_what_the_server_extra_brings() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    required = project["optional-dependencies"]["server"]
    names = {re.split(r"[^\w-]", line)[0].lower() for line in required}
    assert {IMPORT_NAMES.get(name, name) for name in names} == _console.SERVER_PACKAGES
