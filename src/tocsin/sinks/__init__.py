"""Where lines go: an open set. A sink is a callable that takes a list of whole lines, newlines included.

It is called by the emitter's own thread and may take its time; what waits meanwhile is bounded. It may raise:
the lines count as lost and the emitter goes on. Beside the call it may have

- ``linger_s`` and ``batch_lines``: how long the emitter gathers lines between two calls, and how many it
  gives at once;
- ``without_waiting``: the same call for a process that has no thread for it, where it must not wait;
- on what it raises, ``lost_lines``: how many of the lines were not written (all, if it does not say).
"""

from __future__ import annotations

from collections.abc import Callable

Sink = Callable[[list[bytes]], object]
