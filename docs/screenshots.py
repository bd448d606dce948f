"""Takes the pictures of the web pages, docs/images/web-*.png, from a running demo in a real browser.

Run it after a change of the pages: ``.venv/bin/python docs/screenshots.py``. It needs Chromium; CHROMIUM
in the environment names one that is not in the PATH.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, sync_playwright

TARGET = Path(__file__).parent / "images"
WAIT_S = 120
#: (name, page, looks, how many pixels of it are shown on a desk; 0: all)
PICTURES = (
    ("overview", "/", ("light", "dark", "phone"), 0),
    ("incident", "/incidents/1", ("light", "dark", "phone"), 1400),
    ("alert", "/alerts/HighErrorRate", ("light",), 1100),
    ("explore", "/explore?where=status%3Derror", ("light",), 900),
)
#: Suffix -> what the browser is.
LOOKS: dict[str, dict[str, Any]] = {
    "light": {"color_scheme": "light", "viewport": {"width": 1280, "height": 900}},
    "dark": {"color_scheme": "dark", "viewport": {"width": 1280, "height": 900}},
    "phone": {"color_scheme": "light", "viewport": {"width": 375, "height": 812}, "device_scale_factor": 2},
}


def main() -> None:
    """Starts the demo, waits for its incident and its cause, and takes every picture in every look."""
    browser = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    with demo() as url, sync_playwright() as playwright:
        await_cause(url)
        chromium = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        for look, options in LOOKS.items():
            page = chromium.new_page(**options)
            for name, path, looks, height in PICTURES:
                if look in looks:
                    cut = 812 if look == "phone" else height
                    take(page, url + path, TARGET / f"web-{name}-{look}.png", cut)
        chromium.close()


@contextmanager
def demo() -> Iterator[str]:
    """The address of a demo in a temporary folder."""
    command = [str(Path(sys.executable).parent / "tocsin"), "demo", "--port", "0"]
    with tempfile.TemporaryDirectory(prefix="tocsin-pictures-") as folder:
        told = Path(folder) / "demo.log"
        with told.open("w") as log, subprocess.Popen(command, cwd=folder, stdout=log, stderr=log) as process:  # noqa: S603
            try:
                yield _await(lambda: _address(told.read_text()), "the demo did not start")
            finally:
                process.terminate()


def await_cause(url: str) -> None:
    """Returns when an incident has a likely cause."""

    def caused() -> bool:
        with urllib.request.urlopen(f"{url}/overview.json") as answer:  # noqa: S310  # our own address
            return any(one["cause"] for one in json.load(answer)["incidents"])

    _await(caused, "no incident had a likely cause")


def take(page: Page, url: str, path: Path, height: int) -> None:
    """One picture; ``height`` cuts it."""
    page.goto(url)
    page.evaluate("document.fonts.ready")
    if height:
        width = page.viewport_size["width"] if page.viewport_size else 1280
        page.screenshot(path=path, full_page=True, clip={"x": 0, "y": 0, "width": width, "height": height})
    else:
        page.screenshot(path=path, full_page=True)


def _address(text: str) -> str:
    found = re.search(r"http://127\.0\.0\.1:\d+", text)
    return found[0] if found else ""


def _await(condition: Any, failure: str) -> Any:
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.2)
    raise SystemExit(f"{failure} within {WAIT_S} s: run `tocsin demo` and look")


if __name__ == "__main__":
    main()
