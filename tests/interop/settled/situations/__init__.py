"""The situations: a module for each area, a function for each situation, named by what the client does in it."""

import importlib
import inspect

AREAS = [
    "connecting",
    "framing",
    "declaring",
    "routing",
    "publishing",
    "consuming",
    "direct_replies",
    "expiring",
    "dead_letters",
    "limiting",
    "queue_arguments",
    "permitting",
    "ruling",
]


def prepare(area, operator):
    """Has an operator do what the situations of an area need."""
    wanted = getattr(_module(area), "_prepare", None)
    if wanted and operator:
        wanted(operator)


def _module(area):
    return importlib.import_module(f"settled.situations.{area}")


def of(area):
    """The situations of an area by their names, in the order in which they are written."""
    module = _module(area)
    functions = inspect.getmembers(module, inspect.isfunction)
    own = [(name, one) for name, one in functions if one.__module__ == module.__name__ and not name.startswith("_")]
    own.sort(key=lambda pair: pair[1].__code__.co_firstlineno)
    return {f"{area}/{name}": one for name, one in own}


def all():
    return {name: one for area in AREAS for name, one in of(area).items()}
