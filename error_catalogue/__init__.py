"""The error catalogue: what every code means to people, and what they can do next.

One table for the agent, the coordinator and the enclaves.

No enclave loads this: inside, codes and facts are enough (`contracts.refusal`). It imports neither torch nor
Django. Importing it fills the catalogue with the tables of the modules beside this file.
"""

from importlib import import_module
from pkgutil import iter_modules

from error_catalogue.catalogue import CATALOGUE, INTERNAL, Entry, Explained, ResponsibleParty, define, explain

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")

__all__ = ["CATALOGUE", "INTERNAL", "Entry", "Explained", "ResponsibleParty", "define", "explain"]
