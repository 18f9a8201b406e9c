"""What m3 exports: sorted, complete, and each thing from one place."""

import importlib
import inspect
import pkgutil
from collections import Counter
from importlib.resources import files
from types import ModuleType

import pytest

import m3

# These repeat names on purpose, where programs written for os-m3-engine look for them.
REPEATING = ("m3.core", "m3.ootb")


def modules() -> list[ModuleType]:
    """Return m3 and all modules in it whose path has no underscore, imported."""
    names = [m3.__name__] + [
        found.name
        for found in pkgutil.walk_packages(m3.__path__, "m3.")
        if not any(part.startswith("_") for part in found.name.split("."))
    ]
    found = [importlib.import_module(name) for name in names]
    return [module for module in found if not is_a_folder_only(module)]


def is_a_folder_only(module: ModuleType) -> bool:
    """Return whether a package has nothing of its own but a docstring."""
    own = [name for name in vars(module) if not name.startswith("__")]
    return hasattr(module, "__path__") and all(
        isinstance(getattr(module, name), ModuleType) for name in own
    )


def in_order(name: str) -> tuple[bool, bool, str]:
    """Sort names as ruff does (RUF022)."""
    return (not name.isupper(), not name[0].isupper(), name)


@pytest.fixture(params=modules(), ids=lambda module: module.__name__)
def module(request):
    """Each public module in turn."""
    return request.param


def test_all_is_a_sorted_tuple(module):
    """``__all__`` is a tuple without repetitions: constants, classes, functions, by name."""
    assert isinstance(module.__all__, tuple)
    assert list(module.__all__) == sorted(set(module.__all__), key=in_order)


def test_all_names_exist(module):
    """Every name that a module exports is there."""
    assert [name for name in module.__all__ if not hasattr(module, name)] == []


def test_each_public_name_comes_from_one_module():
    """A name of ``m3.__all__`` is exported by m3 and by one module that defines it."""
    homes = Counter(
        name
        for module in modules()
        if module is not m3 and not module.__name__.startswith(REPEATING)
        if not hasattr(module, "__path__")
        for name in module.__all__
        if getattr(m3, name, None) is getattr(module, name)
    )
    several = [name for name in m3.__all__ if homes[name] > 1]
    assert several == []


def test_public_classes_and_functions_have_docstrings():
    """Everything public says what it is."""
    silent = [
        f"{module.__name__}.{name}"
        for module in modules()
        for name in module.__all__
        for thing in [getattr(module, name)]
        if (inspect.isclass(thing) or inspect.isroutine(thing)) and not thing.__doc__
    ]
    assert silent == []


def test_py_typed_is_there():
    """Type checkers may trust the annotations."""
    assert files("m3").joinpath("py.typed").is_file()
