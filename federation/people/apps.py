"""The people app; with it the control plane's table of the error catalogue is loaded."""

from importlib import import_module

from django.apps import AppConfig
from django.utils.translation import get_language

from translations.spoken import follow


class PeopleConfig(AppConfig):
    name = "federation.people"

    def ready(self) -> None:
        """Every process that runs Django can explain every code of the control plane, in the language that it
        speaks, and every session's clocks start when it does."""
        follow(get_language)
        import_module("federation.refusals")
        import_module("federation.people.sessions")
        import_module("federation.people.languages")
