"""Sets the project up in this process, with tables in a database in memory."""

from __future__ import annotations

import os
import warnings


def set_up() -> None:
    """Once for all tests."""
    os.environ["DJANGO_SETTINGS_MODULE"] = "tests.tocsin.django_project.settings"
    import django
    from django.apps import apps

    if apps.ready:
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        django.setup()
    from django.core.management import call_command

    call_command("migrate", verbosity=0, run_syncdb=True)
