"""Measurements of Tocsin with its peers and the physical limit beside, in one run: ``python -m benchmarks``.

    __main__.py   the command: which benchmarks, how large, where the report goes
    workspace.py  one run: its size, its temporary folder
    canonical.py  ingest of canonical lines, bytes on disk, cold start of a query
    rails.py      ingest of Rails lines
    backtest.py   a day of events through the rules
    emitting.py   the emitting library inside an application
    requests.py   what it adds to each request of a web application
    peers.py      what else could read the same lines, each in a process of its own
    emitters.py  applications.py   the same for what prints lines, and for what observes requests
    lines.py  day.py   the synthetic input, seeded
    measure.py  report.py   timing, and how figures are shown

Nothing here asserts a figure. What is asserted is that the work was done: a run that lost a line has none.
"""
