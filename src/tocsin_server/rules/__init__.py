"""Alert rules: what people write in ``ops/alerts/*.yaml``, as typed values.

To add a kind of condition, write a :class:`~tocsin_server.rules.readings.Condition` in its own file here and
give it a row in :class:`~tocsin_server.rules.rule.When`. Checks that need more than types are in
``checks.py``.
"""

from tocsin_server.rules.load import Catalogue, check_rules, load_catalogue, load_rules
from tocsin_server.rules.rule import KINDS, Inhibition, Rule, RuleFile, When

__all__ = [
    "KINDS",
    "Catalogue",
    "Inhibition",
    "Rule",
    "RuleFile",
    "When",
    "check_rules",
    "load_catalogue",
    "load_rules",
]
