"""Runbooks: Markdown that people read and Tocsin executes, read-only."""
