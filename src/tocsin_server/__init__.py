"""Everything of Tocsin that does not run inside the observed application.

The flow is the layout: line → dialect → event → store → rules → evaluation. Each module imports only modules
that stand to its left in the list of ``tests/test_architecture.py``.
"""
