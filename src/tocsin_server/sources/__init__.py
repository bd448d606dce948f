"""Where lines come from. Each source ends in :class:`tocsin_server.load.Loader`.

A source knows what of its bytes is loaded already, and continues there.
"""

from tocsin_server.sources.files import check_readable, load_file
from tocsin_server.sources.signals import stop_signals
from tocsin_server.sources.streams import load_stream, recover_spool

__all__ = ["check_readable", "load_file", "load_stream", "recover_spool", "stop_signals"]
