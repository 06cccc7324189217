"""PEFT methods by name. Every module of this package is imported here, so a new method is one new file."""

import importlib
import pkgutil

from fedmedpeft.methods.initialiser import Initialiser
from fedmedpeft.methods.method import METHODS, Method, register_method, stays_at_sites
from fedmedpeft.methods.rotation import Rotation

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")

__all__ = ["METHODS", "Initialiser", "Method", "Rotation", "register_method", "stays_at_sites"]
