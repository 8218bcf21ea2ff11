"""The people app; with it the control plane's table of the error catalogue is loaded."""

from importlib import import_module

from django.apps import AppConfig


class PeopleConfig(AppConfig):
    name = "federation.people"

    def ready(self) -> None:
        """Every process that runs Django can explain every code of the control plane, and every session's
        clocks start when it does."""
        import_module("federation.refusals")
        import_module("federation.people.sessions")
