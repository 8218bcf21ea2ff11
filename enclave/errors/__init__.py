"""The error catalogue: the vocabulary of refusals that the enclave, the site and the control plane share.

This package imports neither torch nor Django, so every side of every trust boundary can use it. Importing it
fills the catalogue with the tables of the modules beside this file.
"""

from importlib import import_module
from pkgutil import iter_modules

from enclave.errors.catalogue import (
    CATALOGUE,
    INTERNAL,
    Entry,
    Explained,
    Fact,
    Refusal,
    Turn,
    define,
    explain,
)

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")

__all__ = ["CATALOGUE", "INTERNAL", "Entry", "Explained", "Fact", "Refusal", "Turn", "define", "explain"]
