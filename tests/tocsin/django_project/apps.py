from __future__ import annotations

from django.apps import AppConfig

import tocsin


class SchoolConfig(AppConfig):
    name = "tests.tocsin.django_project"
    label = "school"

    def ready(self) -> None:
        tocsin.instrument("allauth")
