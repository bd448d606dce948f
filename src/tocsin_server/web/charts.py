"""Charts as data: times, values with gaps, thresholds and marks. The page draws them and tables them.

Nothing is made up: a value that was not measured is None and is not joined over; the last bucket says that it
is not complete.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tocsin_server.clock import SECOND_US
from tocsin_server.web.params import TimeRange, moment

_WIDTHS_S = (1, 5, 10, 30, 60, 300, 600, 1800, 3600, 10_800, 21_600, 43_200, 86_400, 604_800)

Value = float | int | None


@dataclass(frozen=True, slots=True)
class Buckets:
    """Neighbouring ranges of one width whose edges are multiples of it; the last one holds the range's end.

    Bucket ``j`` (from 0) is ``left + j * width < ts <= left + (j + 1) * width``.
    """

    left: int
    width: int
    count: int
    end: int

    @classmethod
    def of(cls, span: TimeRange, most: int = 60) -> Buckets:
        """At most about ``most`` buckets for a range."""
        length = span.to_us - span.from_us
        widths = (seconds * SECOND_US for seconds in _WIDTHS_S)
        width = next((width for width in widths if length <= most * width), _WIDTHS_S[-1] * SECOND_US)
        left = span.from_us // width * width
        return cls(left, width, -(-(span.to_us - left) // width), span.to_us)

    @property
    def sql(self) -> str:
        """The bucket of ``ts``, from 0."""
        return f"(epoch_us(ts) - {self.left:d} - 1) // {self.width:d}"

    def spans(self) -> list[TimeRange]:
        """The range of each bucket."""
        starts = (self.left + j * self.width for j in range(self.count))
        return [TimeRange(start, start + self.width) for start in starts]

    def incomplete(self) -> bool:
        """Whether the last bucket goes on after the range."""
        return self.left + self.count * self.width > self.end

    def dense(self, found: Mapping[int, Value], empty: Value = None) -> list[Value]:
        """One value a bucket."""
        return [found.get(j, empty) for j in range(self.count)]


def chart(
    title: str,
    unit: str,
    times: Iterable[int],
    series: Mapping[str, Sequence[Value]],
    *,
    thresholds: Mapping[str, float] | None = None,
    urls: Sequence[str] = (),
    incomplete: bool = False,
    marks: Sequence[Mapping[str, Any]] = (),
    fill: str = "",
) -> dict[str, Any]:
    """A chart. ``times``: the end of each bucket; ``fill``: which line would fill it when it is empty."""
    return {
        "title": title,
        "unit": unit,
        "times": [moment(at_us) for at_us in times],
        "series": [{"label": label, "values": list(values)} for label, values in series.items()],
        "thresholds": [{"label": label, "value": value} for label, value in (thresholds or {}).items()],
        "urls": list(urls),
        "incomplete": incomplete,
        "marks": list(marks),
        "fill": fill,
        "empty": all(value is None for values in series.values() for value in values),
    }


def top_of(drawn: Mapping[str, Any]) -> float:
    """The upper end of the value axis: the greatest value and a little air, and the thresholds, unless they
    are so far above that the values would lie flat.
    """
    values = [value for series in drawn["series"] for value in series["values"] if value is not None]
    highest = max([*values, 0.0])
    near = [one["value"] for one in drawn["thresholds"] if one["value"] <= 4 * highest or not highest]
    return 1.08 * max([highest, *near]) or 1.0


def segments(values: Sequence[Value], top: float, width: float = 600, height: float = 100) -> list[str]:
    """Points of SVG polylines, one for each run of values without a gap; a lone value is a short stroke."""
    step = width / max(1, len(values) - 1)
    runs: list[list[str]] = [[]]
    for index, value in enumerate(values):
        if value is None:
            runs.append([])
        else:
            y = height - height * min(float(value), top) / top
            runs[-1].append(f"{index * step:.1f},{y:.1f}")
    return [" ".join(run if len(run) > 1 else [run[0], _beside(run[0])]) for run in runs if run]


def _beside(point: str) -> str:
    x, y = point.split(",")
    return f"{float(x) + 2:.1f},{y}"
