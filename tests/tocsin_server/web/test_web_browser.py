"""The pages in a real browser: hostile texts stay texts, phones and keyboards work, so does no script."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from payloads import FOREIGN_ELEMENTS, PAYLOADS
from playwright.sync_api import Browser, ConsoleMessage, Page, sync_playwright
from website import NOW, Event, Site, morning, running

from tocsin_server import incident
from tocsin_server.resources import runbooks
from tocsin_server.web.pages import PAGES

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(not CHROMIUM and not os.environ.get("CI"), reason="there is no Chromium")

_WATCH = """
window.violations = [];
document.addEventListener(
  'securitypolicyviolation', (event) => window.violations.push(event.violatedDirective));
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


Open = Callable[..., Page]


def _is_trouble(message: ConsoleMessage) -> bool:
    """Every error but the browser's note that a page answered 400, which some are meant to."""
    return message.type == "error" and "status of 400" not in message.text


@pytest.fixture
def visit(browser: Browser) -> Iterator[Open]:
    """Opens pages; at the end nothing may have gone wrong in any of them."""
    contexts, problems = [], list[str]()

    def open_page(url: str, **options: Any) -> Page:
        context = browser.new_context(**options)
        contexts.append(context)
        context.add_init_script(_WATCH)
        page = context.new_page()
        page.on("console", lambda message: problems.append(message.text) if _is_trouble(message) else None)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("dialog", lambda dialog: (problems.append(dialog.message), dialog.dismiss()))
        page.goto(url)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert problems == []


# --- I12, I13: hostile texts ----------------------------------------------------------------------------


def _hostile_events() -> Iterator[Event]:
    """Every payload in every field that lines can fill; each as a service whose requests fail."""
    for i, payload in enumerate(PAYLOADS):
        fields = {
            "service": payload,
            "environment": payload if i % 10 == 0 else "production",
            "source": payload,
            "tenant_id": payload,
            "user_id": payload,
            "request_id": payload,
            "path": payload,
            "controller": payload,
            "action": payload,
            "error": payload,
            "method": payload,
            payload[:60]: payload,
        }
        for j in range(22):
            bad = (
                {"http_status": 500, "status": "error"}
                if j % 2
                else {"http_status": 200, "status": "success"}
            )
            yield {"t": NOW - 200 + 8 * j, "name": "api.request", "duration_ms": 9.0, **bad, **fields}
        said = {**fields, "message": payload * 3, "level": "error", "job_class": payload, "provider": payload}
        yield {"t": NOW - 20, "name": "log", **said}
        yield {"t": NOW - 30, "name": "deploy", "service": payload, "version": payload}
        yield {"t": NOW - 25, "name": payload, "service": "x", "queue": payload, "model": payload}


def _hostile_rules() -> str:
    rules = [
        {
            "alert": f"Hostile{i}",
            "title": payload,
            "severity": "warning",
            "action": payload,
            "subject": payload,
            "when": {"count": {"event": "log", "above": 0, "over": "5m"}},
            "by": ["service"],
            "runbooks": ["hostile"],
        }
        for i, payload in enumerate(PAYLOADS[:20])
    ]
    return json.dumps({"alerts": rules})


def _hostile_runbook() -> str:
    text = (runbooks() / "DEPLOYMENT_ROLLBACK.md").read_text()
    kept = [payload for payload in PAYLOADS if "<!--" not in payload]  # the loader refuses comments
    lines = "\n\n".join(payload.replace("\r\n", " ").replace("\x00", "") for payload in kept)
    text = text.replace("id: deployment-rollback", "id: hostile").replace(
        "title: Errors", "title: <img data-xss> Errors"
    )
    return text.replace("## Symptoms\n", f"## Symptoms\n\n{lines}\n\n", 1)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("hostile")
    books = {"HOSTILE.md": _hostile_runbook()}
    with running(folder, _hostile_events(), more_rules=_hostile_rules(), more_runbooks=books) as site:
        with site.services.state.transaction() as session:
            for payload in PAYLOADS:
                incident.note(session, 1, payload[:60], payload, site.services.clock())
        yield site


def _hostile_paths(site: Site) -> list[str]:
    numbers = [str(row["id"]) for row in site.json("/incidents.json")["incidents"]][:4]
    names = {"Alert": ["HighErrorRate", "Hostile0", "Hostile12"], "Incident": numbers, "Runbook": ["hostile"]}
    paths = [
        page.path.replace("{name}", one).replace("{id}", one)
        for page in PAGES
        for one in names.get(page.title, [""])
    ]
    return [
        *paths,
        "/explore?q=xss",
        "/explore?where=name%3Dlog&q=%3Cscript",
        "/explore?from=%3Cscript%20data-xss%3E",
    ]


def test_I12_hostile_texts_stay_texts_on_every_page(hostile: Site, visit: Open) -> None:
    assert len(PAYLOADS) >= 40
    page = visit(hostile.url)
    for path in _hostile_paths(hostile):
        answer = page.goto(hostile.url + path)
        assert answer is not None
        assert answer.status in (200, 400), path
        page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
        if page.locator("main[hx-get]").count():
            with page.expect_response(lambda answer: answer.request.headers.get("hx-request") == "true"):
                page.keyboard.press("r")
        page.wait_for_function("document.querySelector('main') !== null")
        assert page.evaluate("window.xss") is None, path
        assert page.evaluate("window.violations") == [], path
        assert page.locator(FOREIGN_ELEMENTS).count() == 0, path
        assert not re.search("[\u202e\u200b\x1b]", page.locator("main").inner_text()), path


def test_I12_the_exported_incident_runs_nothing(hostile: Site, visit: Open, tmp_path: Path) -> None:
    file = tmp_path / "incident.html"
    file.write_text(hostile.get("/incidents/1.html")[2])
    page = visit(file.as_uri())
    assert page.evaluate("window.xss") is None
    assert page.locator(FOREIGN_ELEMENTS).count() == 0


def test_I12_scripts_write_text_only() -> None:
    folder = Path(__file__).parents[3] / "src/tocsin_server/web"
    own = "".join(path.read_text() for path in (folder / "static").glob("*.js"))
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function", own)
    templates = "".join(path.read_text() for path in (folder / "templates").glob("*.html"))
    assert not re.search(r"\|\s*safe\b|autoescape|Markup", templates)


def test_I13_huge_texts_are_capped(tmp_path: Path, visit: Open) -> None:
    lines: list[Event] = [
        {"t": NOW - 10 - i, "name": "log", "message": "a" * 1_000_000, "service": "b" * 100_000}
        for i in range(10)
    ]
    with running(tmp_path, lines, evaluate=False) as site:
        page = visit(f"{site.url}/explore")
        assert len(page.locator("main").inner_text()) < 20_000
        page.locator(".rows summary").first.click()
        page.get_by_text("show more").first.click()
        assert "more characters" in page.locator("main").inner_text()
        assert len(page.content()) < 1_000_000


# --- people ---------------------------------------------------------------------------------------------

ALL = [
    "/",
    "/alerts",
    "/alerts/HighErrorRate",
    "/incidents",
    "/incidents/1",
    "/runbooks",
    "/runbooks/deployment-rollback",
    "/explore",
    "/deliveries",
    "/sources",
]


@pytest.mark.parametrize("script", [True, False], ids=["script", "no-script"])
def test_nothing_scrolls_sideways_on_a_phone(outage: Site, visit: Open, script: bool) -> None:
    page = visit(outage.url, viewport={"width": 375, "height": 812}, java_script_enabled=script)
    for path in ALL:
        page.goto(outage.url + path)
        width = page.locator("html").evaluate("(html) => html.scrollWidth") if script else _width(page)
        assert width <= 375, path


def _width(page: Page) -> float:
    box = page.locator("main").bounding_box()
    assert box
    return box["width"]


def test_hostile_names_do_not_widen_a_phone(hostile: Site, visit: Open) -> None:
    page = visit(hostile.url, viewport={"width": 375, "height": 812})
    for path in ("/", "/alerts", "/incidents/1", "/explore"):
        page.goto(hostile.url + path)
        assert page.evaluate("document.documentElement.scrollWidth") <= 375, path


def test_the_keyboard_leads_everywhere(outage: Site, visit: Open) -> None:
    page = visit(outage.url)
    for keys, path in (
        ("ga", "/alerts"),
        ("gi", "/incidents"),
        ("ge", "/explore"),
        ("gr", "/runbooks"),
        ("go", "/"),
    ):
        page.keyboard.type(keys)
        page.wait_for_url(outage.url + path)
    page.keyboard.type("?")
    assert page.locator("#help").is_visible()
    page.keyboard.press("Escape")
    assert not page.locator("#help").is_visible()
    page.keyboard.type("/")
    page.wait_for_url(outage.url + "/explore#search")
    page.wait_for_function("document.activeElement.id === 'search'")
    page.keyboard.type("NoMethod")
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile("q=NoMethod"))
    assert "120 events" in page.locator("main").inner_text()


def test_the_first_tab_skips_to_the_content(outage: Site, visit: Open) -> None:
    page = visit(outage.url)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"


def test_charts_are_drawn_and_their_tables_hold_the_same(outage: Site, visit: Open) -> None:
    page = visit(outage.url)
    page.wait_for_selector(".u-over")
    assert page.locator(".chart canvas").count() == 3
    assert page.locator(".chart .twin tbody tr").count() == 180
    page.goto(outage.url + "/alerts/HighErrorRate")
    box = page.locator(".u-over").bounding_box()
    assert box
    page.mouse.click(box["x"] + box["width"] - 3, box["y"] + 20)
    page.wait_for_url(re.compile("at=2026-11-23T08:"))


def test_dragging_over_a_chart_zooms(outage: Site, visit: Open) -> None:
    page = visit(outage.url)
    page.locator(".u-over").first.scroll_into_view_if_needed()
    box = page.locator(".u-over").first.bounding_box()
    assert box
    page.mouse.move(box["x"] + 100, box["y"] + 30)
    page.mouse.down()
    page.mouse.move(box["x"] + 200, box["y"] + 30, steps=4)
    page.mouse.up()
    page.wait_for_url(re.compile(r"from=2026-11-23T07%3A.*&to=2026-11-23T0"))


def test_without_script_everything_is_there(outage: Site, visit: Open) -> None:
    page = visit(outage.url, java_script_enabled=False)
    assert page.locator(".chart svg polyline").count() >= 3
    page.locator(".chart summary").first.click()
    assert page.locator(".chart tbody tr").first.is_visible()
    assert not page.locator("#theme").is_visible()
    page.goto(outage.url + "/explore?where=status%3Derror")
    page.locator(".rows summary").first.click()
    page.locator("button[value='controller=courses'][name=unless]").first.click()
    assert "Nothing matches" in page.locator("main").inner_text()


def test_the_theme_is_kept(outage: Site, visit: Open) -> None:
    page = visit(outage.url, color_scheme="light")
    light = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.locator("#theme").click()
    page.locator("#theme").click()
    assert page.locator("#theme").inner_text() == "dark"
    page.reload()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != light


def test_a_refresh_keeps_what_is_open(outage: Site, visit: Open) -> None:
    page = visit(outage.url)
    page.locator(".chart summary").first.click()
    with page.expect_response(lambda answer: answer.request.headers.get("hx-request") == "true"):
        page.keyboard.press("r")
    page.wait_for_selector(".u-over")
    assert page.locator(".twin tbody tr").first.is_visible()
    assert page.locator("main").count() == 1


def test_a_person_works_on_an_incident_in_the_browser(tmp_path: Path, visit: Open) -> None:
    with running(tmp_path, morning()) as site:
        page = visit(f"{site.url}/incidents/1")
        page.get_by_role("button", name="Acknowledge").click()
        page.locator("#note").fill("rolling back")
        page.get_by_role("button", name="Add note").click()
        page.wait_for_url(re.compile("#timeline"))
        assert "rolling back" in page.locator(".timeline").inner_text()
        page.get_by_role("button", name="Resolve").click()
        page.wait_for_selector(".status.ok")
