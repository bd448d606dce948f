"""Signals that Tocsin samples itself; each probe answers with one line, as a service would print it.

Probes of another kind than HTTP get their own file here, beside :mod:`tocsin_server.probes.http`.
"""

from tocsin_server.probes.http import check
from tocsin_server.probes.prober import Prober

__all__ = ["Prober", "check"]
