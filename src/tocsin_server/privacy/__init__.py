"""Parsing is redaction: what the privacy table drops, hashes or cuts, as small pure functions of one value.

``key_kind`` decides by a field's name, ``scrub_text`` by what a text looks like, ``clean`` is the table of
both. Nothing here knows lines or events, so the reference parser and the vectorised path call the same
functions, once per distinct value.
"""

from tocsin_server.privacy.fields import BODY, COUNT, DROP, NETWORK, PERSON, PSEUDONYM, key_kind
from tocsin_server.privacy.paths import template_path
from tocsin_server.privacy.pseudonyms import Pseudonyms
from tocsin_server.privacy.text import head, scrub_error, scrub_text
from tocsin_server.privacy.values import COLUMN_CLEANERS, KIND_CLEANERS, clean, identifier, label, user_agent

__all__ = [
    "BODY",
    "COLUMN_CLEANERS",
    "COUNT",
    "DROP",
    "KIND_CLEANERS",
    "NETWORK",
    "PERSON",
    "PSEUDONYM",
    "Pseudonyms",
    "clean",
    "head",
    "identifier",
    "key_kind",
    "label",
    "scrub_error",
    "scrub_text",
    "template_path",
    "user_agent",
]
