"""Annotations that are all text, as this import makes them, work like others."""

from __future__ import annotations

import gc
import sys
import weakref
from typing import TYPE_CHECKING

import pytest

from m3 import Component, Conductor, Transport
from m3.errors import ResourceError

if TYPE_CHECKING:
    from somewhere import Session


class Upper(Component):
    lower: Lower
    count: int


class Lower(Component):
    pass


class Incomplete(Component):
    session: Session


def test_order(journal):
    """What a module defines, also later, is found."""
    conductor = Conductor()
    upper = conductor.add(Upper)
    with conductor:
        assert type(upper.lower) is Lower
        assert [node.name for node in conductor.graph().nodes] == ["Lower", "Upper"]


def test_what_only_type_checkers_see():
    """It cannot be found, and that is an error which says so."""
    conductor = Conductor()
    conductor.add(Incomplete)
    with pytest.raises(ResourceError, match=r"Incomplete.session: .*'Session'.*import or define"):
        conductor.setup()


def test_classes_of_a_function():
    """A function's classes see each other, also later ones, and so do stages."""

    class A(Component):
        later: Later | None

    class Stage(Transport):
        a: A

    class B(Component):
        a: A
        upper: Upper

        class Inner(Component):
            a: A

    class Later(Component):
        pass

    conductor = Conductor()
    b, inner = conductor.add(B), conductor.add(B.Inner)
    later = conductor.add(Later)
    conductor.require(Stage)
    with conductor:
        assert type(b.a) is A
        assert b.a is inner.a
        assert b.a.later is later
        stage = Stage()
        conductor.inject(stage)
        assert stage.a is b.a


@pytest.mark.parametrize("number", range(3))
def test_each_call_of_the_function_has_its_own(number):
    """The classes of another call, which have the same names, are not meant."""

    class Needed(Component):
        which = number

    class User(Component):
        needed: Needed
        last: Last

    class Last(Component):
        which = number

    conductor = Conductor()
    user = conductor.add(User)
    with conductor:
        assert (user.needed.which, user.last.which) == (number, number)


@pytest.mark.skipif(
    sys.version_info < (3, 14) and not getattr(sys, "_is_gil_enabled", lambda: True)(),
    reason="there, no class is ever freed once a thread was started",
)
def test_nothing_is_kept_for_good():
    """The classes of a function, and what it had, go when nobody uses them."""

    class Big:
        pass

    def use():
        big = Big()

        class A(Component):
            b: B

        class B(Component):
            pass

        conductor = Conductor()
        a = conductor.add(A)
        with conductor:
            assert type(a.b) is B
        return weakref.ref(big), weakref.ref(A)

    references = use()
    gc.collect()
    assert [reference() for reference in references] == [None, None]
