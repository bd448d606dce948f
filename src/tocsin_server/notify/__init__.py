"""Somebody is told: instances are grouped, groups become messages, messages are delivered or explained."""

from tocsin_server.notify.outbox import Notifier, send_test

__all__ = ["Notifier", "send_test"]
