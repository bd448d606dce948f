"""Why an alert fired, or did not: over a history (:func:`silent`), and at one instant (:func:`explain`)."""

from tocsin_server.why.explain import explain
from tocsin_server.why.nearest import Nearest, silent

__all__ = ["Nearest", "explain", "silent"]
