"""``tocsin.deploy``: what each platform says about a deploy, and what happens where none says anything."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest

import tocsin.deploy
from tests.tocsin import snippets
from tests.tocsin.exporters.feeding import CANARIES, TRACES
from tocsin import emitter
from tocsin.config import Settings
from tocsin.deploy import PLATFORMS, deploy, detect
from tocsin.testing import capture_events

SHA = "8a382771c0ffee1234567890abcdef1234567890"

#: What the platforms' own documentation gives as examples.
ENVIRONMENTS = {
    "Railway": (
        {"RAILWAY_SERVICE_NAME": "core", "RAILWAY_GIT_COMMIT_SHA": SHA, "RAILWAY_DEPLOYMENT_ID": "d-1"},
        ("core", None, SHA),
    ),
    "Railway, not from Git": (
        {"RAILWAY_SERVICE_NAME": "core", "RAILWAY_DEPLOYMENT_ID": "d-1"},
        ("core", "d-1", None),
    ),
    "Heroku (dyno metadata)": (
        {"HEROKU_APP_NAME": "example-app", "HEROKU_RELEASE_VERSION": "v42", "HEROKU_SLUG_COMMIT": SHA},
        ("example-app", "v42", SHA),
    ),
    "Render": ({"RENDER_SERVICE_NAME": "core", "RENDER_GIT_COMMIT": SHA}, ("core", None, SHA)),
    "Fly.io": (
        {"FLY_APP_NAME": "core", "FLY_IMAGE_REF": "registry.fly.io/core:deployment-01H9RK9EYO9PGN"},
        ("core", "deployment-01H9RK9EYO9PGN", None),
    ),
    "Cloud Run": ({"K_SERVICE": "core", "K_REVISION": "core.1"}, ("core", "core.1", None)),
    "Google App Engine": (
        {"GAE_SERVICE": "default", "GAE_VERSION": "20261123t101500"},
        ("default", "20261123t101500", None),
    ),
    "Vercel": ({"VERCEL_GIT_COMMIT_SHA": SHA}, (None, None, SHA)),
    "GitHub Actions": ({"GITHUB_SHA": SHA, "GITHUB_REF_NAME": "main"}, (None, None, SHA)),
    "GitLab CI": ({"CI_COMMIT_TAG": "v1.2", "CI_COMMIT_SHA": SHA}, (None, "v1.2", SHA)),
    "AWS CodeBuild": ({"CODEBUILD_RESOLVED_SOURCE_VERSION": SHA}, (None, None, SHA)),
}


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """No platform around the tests, and nothing complained of yet."""
    for name in list(os.environ):
        variables = {v for row in PLATFORMS for v in (*row.service, *row.version, *row.git_sha)}
        if name in variables or name.startswith("TOCSIN_"):
            monkeypatch.delenv(name)
    monkeypatch.setattr(tocsin.deploy, "_complained", False)
    return monkeypatch


def printed(**arguments: Any) -> list[dict[str, Any]]:
    with capture_events(Settings(pseudonym_key="tocsin-testing-pseudonym-key")) as captured:
        deploy(**arguments)
    return [event["tags"] for event in captured.events]


def test_every_platform_has_an_example() -> None:
    assert [row.name for row in PLATFORMS] == list(ENVIRONMENTS)


@pytest.mark.parametrize(("environ", "known"), ENVIRONMENTS.values(), ids=ENVIRONMENTS.keys())
def test_a_platform_says_what_was_deployed(environ: dict[str, str], known: tuple[str | None, ...]) -> None:
    assert tuple(detect(environ).values()) == known


def test_the_commit_in_short_is_the_version_where_there_is_none(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("RENDER_GIT_COMMIT", SHA)
    environment.setenv("RENDER_SERVICE_NAME", "core")
    assert printed() == [{"service": "core", "version": "8a38277", "git_sha": SHA, "status": "success"}]


def test_what_is_said_explicitly_wins(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("RAILWAY_GIT_COMMIT_SHA", SHA)
    environment.setenv("TOCSIN_VERSION", "2026.11.2")
    assert printed(status="error", irreversible=True) == [
        {"version": "2026.11.2", "git_sha": SHA, "status": "error", "irreversible": True}
    ]
    environment.setenv("TOCSIN_GIT_SHA", "abcdef0")
    assert printed(version="2026.11.3", service="core")[0] == {
        "service": "core",
        "version": "2026.11.3",
        "git_sha": "abcdef0",
        "status": "success",
    }


def test_configure_names_the_service(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("K_SERVICE", "core-00017")
    environment.setenv("K_REVISION", "core-00017-abc")
    with capture_events() as captured:
        deploy()
    assert captured.events[0]["tags"]["service"] == "test"


def test_where_nothing_is_known_it_says_so_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert printed() == []
    assert printed() == []
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 1
    assert "TOCSIN_VERSION" in told[0]


def test_S14_no_person_and_no_secret_is_printed() -> None:
    with capture_events() as captured:
        deploy(version="1", **CANARIES)
    assert captured.events
    text = b"".join(captured.lines).decode().lower()
    assert [trace for trace in TRACES if trace in text] == []


def test_the_page_shows_what_happens(
    environment: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    environment.setenv("TOCSIN_VERSION", "2026.11.2")
    snippets.run("instrumentation/deploys.md", 0)
    snippets.run("instrumentation/deploys.md", 1)["when_ready"](None)
    emitter.current().close()
    lines = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert [line["metric"] for line in lines] == ["deploy", "deploy"]


def test_the_page_names_every_variable() -> None:
    page = (snippets.DOCS / "instrumentation" / "deploys.md").read_text()
    for row in PLATFORMS:
        assert [name for name in (*row.service, *row.version, *row.git_sha) if f"`{name}`" not in page] == []
