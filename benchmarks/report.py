"""How figures are shown: a table on the terminal, JSON, and the generated part of ``docs/benchmarks.md``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.table import Table

from benchmarks.measure import Timing

#: Ours, somebody else's, or what no program on this machine can beat.
Role = Literal["tocsin", "peer", "limit"]

_BEGIN, _END = "<!-- measured: begin -->", "<!-- measured: end -->"


@dataclass(frozen=True, slots=True)
class Row:
    """One contestant's figure, in the unit of its section; None: it is not installed."""

    name: str
    role: Role
    value: float | None
    timing: Timing | None = None


@dataclass(frozen=True, slots=True)
class Section:
    """One comparison. The first row is Tocsin's own: its figure is divided by each of the others."""

    title: str
    unit: str
    higher_is_better: bool
    rows: list[Row]
    aim: str = ""
    notes: list[str] = field(default_factory=list)

    def ratio(self, row: Row) -> float | None:
        """Tocsin's figure divided by the row's."""
        ours = self.rows[0].value
        return ours / row.value if ours and row.value else None

    @property
    def heading(self) -> str:
        """Title, unit, which way is better, and the aim."""
        better = "higher" if self.higher_is_better else "lower"
        return f"{self.title} ({self.unit}, {better} is better)" + (f"; aim: {self.aim}" if self.aim else "")

    def cells(self) -> Iterator[tuple[str, ...]]:
        """The rows as text, under :data:`COLUMNS`."""
        for row in self.rows:
            ratio = self.ratio(row)
            yield (
                row.name,
                row.role,
                "not installed" if row.value is None else number(row.value),
                "" if ratio is None else number(ratio),
                "" if row.timing is None else f"{row.timing.wall_s:.2f}",
                "" if row.timing is None else f"{row.timing.cpu_s:.2f}",
            )

    def as_json(self) -> dict[str, Any]:
        """Everything, with the ratios."""
        rows = [asdict(row) | {"tocsin_divided_by_this": self.ratio(row)} for row in self.rows]
        return asdict(self) | {"rows": rows}


COLUMNS = ("", "role", "figure", "Tocsin ÷ this", "wall s", "CPU s")


def rate(name: str, role: Role, count: int, timing: Timing) -> Row:
    """A row of things a second."""
    return Row(name, role, count / timing.wall_s, timing)


def seconds(name: str, role: Role, timing: Timing) -> Row:
    """A row of wall seconds."""
    return Row(name, role, timing.wall_s, timing)


def number(value: float) -> str:
    """Thousands with separators, small figures with three digits that count."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def tables(sections: Sequence[Section], console: Console) -> None:
    """One table a section."""
    for section in sections:
        table = Table(title=section.heading, title_justify="left", title_style="bold")
        _fill(table, section)
        console.print(table)
        for note in section.notes:
            console.print(f"  {note}", style="dim")
        console.print()


def _fill(table: Table, section: Section) -> None:
    for index, column in enumerate(COLUMNS):
        table.add_column(column, justify="left" if index < 2 else "right")
    for cells, row in zip(section.cells(), section.rows, strict=True):
        table.add_row(*cells, style="bold" if row.role == "tocsin" else "")


def markdown(sections: Sequence[Section], circumstances: Mapping[str, str]) -> str:
    """The circumstances and the sections as Markdown."""
    parts = [
        "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in circumstances.items())])
    ]
    for section in sections:
        lines = [_line(COLUMNS), "|---|---|--:|--:|--:|--:|", *(_line(cells) for cells in section.cells())]
        notes = "".join(f"\n\n{note}" for note in section.notes)
        parts.append(f"### {section.heading}\n\n" + "\n".join(lines) + notes)
    return "\n\n".join(parts)


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def replace_measured(page: Path, text: str) -> None:
    """Writes ``text`` between the page's two marks. Raises SystemExit when they are missing."""
    before, begin, rest = page.read_text().partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not begin or not end:
        raise SystemExit(f"{page} has no lines {_BEGIN} and {_END}: put them where the tables shall stand")
    page.write_text(f"{before}{_BEGIN}\n\n{text}\n\n{_END}{after}")


#: A benchmark's way to say what it is doing.
Say = Callable[[str], None]
