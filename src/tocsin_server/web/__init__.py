"""The web: pages rendered on the server, each with a JSON twin, and the API beside them.

A page is a function of :mod:`tocsin_server.web.views` (services and parameters in, plain data out) and one
template; :mod:`tocsin_server.web.pages` is their table.
"""

from tocsin_server.web.app import create_app

__all__ = ["create_app"]
