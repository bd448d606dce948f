"""Draws docs/images/demo.svg, the picture in the README: what `make demo` prints.

Run it after a change of the demo's output: ``.venv/bin/python docs/picture.py``.
"""

from __future__ import annotations

import io
import tempfile
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import MONOKAI

from tocsin_server.clock import real_clock
from tocsin_server.demo import run

TARGET = Path(__file__).parent / "images" / "demo.svg"

#: Rich's own template loads its font from elsewhere; this one uses the reader's.
TEMPLATE = """<svg class="rich-terminal" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{ font-family: ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace;
font-size: {char_height}px; line-height: {line_height}px; font-variant-east-asian: full-width; }}
{styles}
</style>
<defs><clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}" /></clipPath>
{lines}</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g></g></svg>
"""


def main() -> None:
    """Runs the demo in a temporary folder and writes the picture."""
    console = Console(record=True, width=104, highlight=False, file=io.StringIO())
    with tempfile.TemporaryDirectory() as folder:
        run(Path(folder) / "tocsin-demo", real_clock, console.print)
    svg = console.export_svg(title="make demo", theme=MONOKAI, code_format=TEMPLATE, unique_id="demo")
    TARGET.write_text(svg.replace(str(Path(folder)) + "/", ""))


if __name__ == "__main__":
    main()
