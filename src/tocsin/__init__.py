"""Tocsin's emitter: prints what happens in your application as JSON lines that Tocsin turns into alerts.

    import tocsin

    tocsin.configure(service="k12-core", environment="production")
    with tocsin.bind(request_id=request_id, tenant_id=tenant_id):
        tocsin.emit("auth.login", provider="saml", status="success")
        tocsin.log("INFO", "sync started")
        with tocsin.timed("sync.run", provider="oneroster"):
            sync()

Importing or configuring it opens nothing, starts no thread and patches nothing. Emitting never raises.
"""

from tocsin.context import annotate, bind
from tocsin.emitter import emit, flush, log
from tocsin.instrumentation import instrument
from tocsin.startup import configure
from tocsin.timing import timed

__version__ = "0.1.0"

__all__ = ["__version__", "annotate", "bind", "configure", "emit", "flush", "instrument", "log", "timed"]
