"""Annotations with variables of types, and types made by ``NewType``."""

import sys
from typing import Annotated, Any, Generic, NewType, TypeVar

import pytest

from m3 import Component, Conductor, Transport
from m3.errors import ResourceError


class Database(Component):
    pass


class Cache(Component):
    pass


Needed = TypeVar("Needed")
Other = TypeVar("Other")
Store = TypeVar("Store", bound=Component)
OneOf = TypeVar("OneOf", Database, Cache)
Number = TypeVar("Number", bound=int)


class Base(Component, Generic[Needed]):
    dep: Needed


class Pair(Base[Other], Generic[Needed, Other]):
    first: "Needed | None"


class Bounded(Component, Generic[Store]):
    store: Store


class Constrained(Component, Generic[OneOf]):
    store: OneOf


class Numbered(Component, Generic[Number, Needed]):
    number: Number
    it: Needed


def set_up(*components):
    """Return instances of these classes after a conductor has set them up."""
    conductor = Conductor()
    made = [conductor.add(component) for component in components]
    with conductor:
        return made


@pytest.mark.parametrize("argument", [Database, "Database", Annotated[Database, 1]])
def test_a_variable_is_what_a_subclass_says(argument):
    """``Base[Real]`` as a base says what the annotations of ``Base`` mean."""

    class Impl(Base[argument]):
        pass

    class Below(Impl):
        pass

    below, database = set_up(Below, Database)
    assert below.dep is database


def test_a_variable_that_is_passed_on():
    """Through several generic classes, each with variables of its own; in a union, too."""

    class Impl(Pair[Cache, Database]):
        pass

    impl, cache = set_up(Impl, Cache)
    assert (type(impl.dep), impl.first) == (Database, cache)


def test_stages_have_variables_too():
    """Whose instances are no resources."""

    class Step(Transport, Generic[Needed]):
        dep: Needed

    class Concrete(Step[Database]):
        pass

    conductor = Conductor()
    conductor.require(Concrete)
    step = Concrete()
    with conductor:
        conductor.inject(step)
        assert step.dep is conductor[Database]


@pytest.mark.parametrize("cls", [Bounded, Constrained])
def test_a_component_that_nobody_names(cls):
    """A variable that must be some component, and stands for none, is an error, not silence."""

    class User(Component):
        it: cls

    name = cls.__name__
    for component in (cls, User):
        with pytest.raises(ResourceError, match=rf"{name}.store: .*class Name\({name}\["):
            set_up(component)


def test_a_value_instead():
    """An attribute that has a value need not resolve."""
    instance = Bounded()
    instance.store = None
    set_up(instance)
    assert instance.store is None


def test_variables_of_other_things():
    """A variable that may be anything, or cannot be a component, is left alone."""
    (numbered,) = set_up(Numbered)
    assert vars(numbered).keys() & {"number", "it"} == set()

    class Impl(Numbered[int, Any]):
        pass

    (numbered,) = set_up(Impl)
    assert vars(numbered).keys() & {"number", "it"} == set()


@pytest.mark.skipif(sys.version_info < (3, 12), reason="there is no such syntax")
def test_the_newer_syntax():
    """``class Base[T]`` means the same, with text in it as without, and so does an alias's."""
    names = {"Component": Component, "Database": Database, "__name__": __name__}
    source = """
    type Maybe[T] = T | None
    type Plain[T] = T
    class Base[T: Component](Component):
        dep: T
        text: "T"
        maybe: Maybe[Database]
        plain: Plain[T]
    class Impl(Base[Database]): pass
    """
    exec("\n".join(line[4:] for line in source.splitlines()), names)
    impl, database = set_up(names["Impl"], Database)
    assert [impl.dep, impl.text, impl.maybe, impl.plain] == [database] * 4
    with pytest.raises(ResourceError, match=r"Base\.dep: its annotation 'T'"):
        set_up(names["Base"])


@pytest.mark.skipif(sys.version_info < (3, 13), reason="variables have no default")
def test_a_default():
    """It counts where nothing else is said."""
    names = {"Component": Component, "Database": Database, "__name__": __name__}
    exec("class Base[T = Database](Component):\n    dep: T", names)
    base, database = set_up(names["Base"], Database)
    assert base.dep is database


def test_new_types():
    """A ``NewType`` of a class is served by what serves for the class; so is one of that."""
    primary = NewType("primary", Database)
    chosen = NewType("chosen", primary)
    identity = NewType("identity", int)

    class User(Component):
        first: primary
        second: chosen
        third: "primary | None"
        number: identity

    user, database = set_up(User, Database)
    assert [user.first, user.second, user.third] == [database] * 3
    assert not hasattr(user, "number")
