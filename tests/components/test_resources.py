"""Which resource an annotation gets."""

import abc
import logging
import sys
from collections.abc import Iterable
from typing import Annotated, Any, ClassVar, Final, Optional, Protocol

import pytest

from m3 import Component, Conductor, Transport
from m3.components import CircularDependencyError, ComponentError
from m3.errors import ComponentStateError, ResourceError


class Database(Component):
    pass


class Replica(Database):
    pass


def given(conductor, annotation):
    """Return what a component with an attribute ``it`` of that annotation gets."""
    user = conductor.add(type("User", (Component,), {"__annotations__": {"it": annotation}}))
    with conductor:
        return getattr(user, "it", "nothing")


@pytest.mark.parametrize(
    "annotation",
    [
        Database,
        "Database",
        Annotated[Database, "the one"],
        Annotated["Database", "the one"],
        Final[Database],
        Database | None,
        Optional[Database],  # noqa: UP045  # as some write it
        Optional["Database"],
        "Annotated[Database | None, 1]",
    ],
)
def test_ways_to_write_it(annotation):
    """Text, ``Annotated``, ``Final`` and optional ones mean the same as the class."""
    conductor = Conductor()
    database = conductor.add(Database)
    assert given(conductor, annotation) is database


@pytest.mark.skipif(sys.version_info < (3, 12), reason="there are no such aliases")
def test_aliases():
    """A name made by a type statement is what it stands for."""
    names = {"Database": Database}
    exec("type Known = Database\ntype Unknown = Nope", names)
    conductor = Conductor()
    database = conductor.add(Database)
    assert given(conductor, names["Known"]) is database
    with pytest.raises(ResourceError, match="'Unknown' cannot be resolved"):
        given(Conductor(), names["Unknown"])


@pytest.mark.parametrize(
    "annotation",
    [int, "int | str", Any, list[Database], type[Database], ClassVar[Database], "ClassVar[Nope]"],
)
def test_what_is_no_resource(annotation):
    """Other annotations are left alone."""
    conductor = Conductor()
    conductor.add(Database)
    assert given(conductor, annotation) == "nothing"


def test_an_instance_of_the_users_own():
    """An instance that was added serves for its class, and gets config and logger."""
    conductor = Conductor(config={"a": 1})
    mine = Database()
    assert conductor.add(mine) is mine
    assert given(conductor, Database) is mine
    assert mine.config == {"a": 1}
    assert mine.logger is logging.getLogger(__name__)


def test_an_instance_keeps_its_own_config():
    """Where the conductor has no configuration, it takes nobody's away."""
    mine = Database()
    mine.config = {"own": True}
    assert Conductor().add(mine).config == {"own": True}
    assert Conductor().add(Database).config == {}


def test_an_added_subclass_serves_for_its_base():
    """But not if it asks for one itself, as what wraps another does."""

    class Cache(Database):
        origin: Database

    conductor = Conductor()
    replica = conductor.add(Replica)
    assert given(conductor, Database) is replica

    conductor = Conductor()
    cache = conductor.add(Cache)
    assert type(given(conductor, Database)) is Database
    assert given(conductor, Cache) is cache


def test_the_class_itself_comes_before_its_subclasses():
    """Who asks for a class that was added gets that."""
    conductor = Conductor()
    conductor.add(Replica)
    database = conductor.add(Database)
    assert given(conductor, Database) is database


def test_by_name():
    """Two instances of one class are told apart by the names of the attributes."""

    class Copy(Component):
        source: Database
        target: Database
        other: Database

    conductor = Conductor()
    source, target = (
        conductor.add(Database(), name="source"),
        conductor.add(Database, name="target"),
    )
    other = conductor.add(Database)
    copy = conductor.add(Copy)
    with conductor:
        assert (copy.source, copy.target, copy.other) == (source, target, other)
        assert len({source, target, other}) == 3
        assert conductor["source"] is source
        assert [node.name for node in conductor.graph().nodes] == [
            "Database",
            "source",
            "target",
            "Copy",
        ]


def test_names_are_given_once():
    """The same again is the same; another one is refused."""
    conductor = Conductor()
    source = conductor.add(Database, name="source")
    assert conductor.add(Database, name="source") is source
    assert conductor.add(source, name="source") is source
    with pytest.raises(ComponentStateError, match="named 'source' already"):
        conductor.add(Database(), name="source")


def test_several_and_no_name_fits():
    """The error names them, and what to do."""
    conductor = Conductor()
    conductor.add(Database, name="source")
    conductor.add(Database, name="target")
    with pytest.raises(
        ResourceError, match=r"User.it asks for Database.*'source' \(Database\), 'target'.*name"
    ):
        given(conductor, Database)


def test_the_only_one_serves_whatever_its_name():
    """A name that nobody asks for keeps nobody from being used."""
    conductor = Conductor()
    source = conductor.add(Database, name="source")
    assert given(conductor, Database) is source


def test_a_name_of_the_wrong_type():
    """A resource of that name that is no instance of the annotation is an error."""
    conductor = Conductor()
    conductor.add("text", name="it")
    with pytest.raises(ResourceError, match=r"User.it asks for Database, .*'text'"):
        given(conductor, Database)


@pytest.mark.parametrize("annotation", [str, Any, "str | None", str | int])
def test_plain_objects_by_name(annotation):
    """Any object can be a resource."""
    conductor = Conductor()
    conductor.add("text", name="it")
    assert given(conductor, annotation) == "text"


def test_plain_objects_by_type():
    """They are handed over, and neither set up nor asked what they need."""

    class Session:
        unknown: "Nope"  # noqa: F821

        def setup(self):
            raise AssertionError

    class Special(Session):
        pass

    conductor = Conductor()
    session = conductor.add(Special())
    assert given(conductor, Session) is session

    conductor = Conductor()
    assert given(conductor, Session) == "nothing"

    conductor = Conductor()
    conductor.patch(Session, session)
    assert given(conductor, Session) is session


@pytest.mark.parametrize("annotation", [dict, Iterable, object])
def test_general_types_mean_no_certain_object(annotation):
    """An object without a name is not handed to everybody who says ``dict``."""
    conductor = Conductor()
    conductor.add({"a": 1})
    assert given(conductor, annotation) == "nothing"


def test_interfaces():
    """An abstract class and a protocol are served by what implements them."""

    class Store(abc.ABC):
        @abc.abstractmethod
        def write(self): ...

    class Writes(Protocol):
        def write(self): ...

    class Memory(Component, Store):
        def write(self):
            pass

    conductor = Conductor()
    memory = conductor.add(Memory)
    assert given(conductor, Store) is memory

    conductor = Conductor()
    memory = conductor.add(Memory, name="it")
    assert given(conductor, Writes) is memory


class TestPatches:
    """``patch`` replaces what is asked for."""

    def test_by_a_class_an_instance_and_any_object(self):
        """A class is made once; an object need not be a component."""
        for replacement in (Replica, Replica(), object()):
            conductor = Conductor()
            conductor.patch(Database, replacement)
            found = given(conductor, Database)
            assert found is conductor[Database] is conductor.add(Database)
            assert found is replacement or type(found) is replacement

    def test_after_it_was_added(self):
        """What was added before is not started then."""
        conductor = Conductor()
        conductor.add(Database)
        conductor.patch(Database, Replica)
        assert type(given(conductor, Database)) is Replica
        assert [node.name for node in conductor.graph().nodes] == ["Replica", "User"]

    def test_a_name_comes_first(self):
        """What was added under the very name of the attribute is meant."""
        conductor = Conductor()
        it = conductor.add(Database, name="it")
        conductor.patch(Database, Replica)
        assert given(conductor, Database) is it

    def test_a_name_can_be_patched(self):
        """So a test can replace a resource that has a name, by anything."""
        conductor = Conductor()
        conductor.add(Database, name="it")
        fake = object()
        conductor.patch("it", fake)
        assert given(conductor, Database) is fake
        assert fake is conductor["it"]
        assert [node.name for node in conductor.graph().nodes] == ["it", "User"]

    def test_through_an_optional_annotation(self):
        """A patch makes an optional resource present."""
        conductor = Conductor()
        conductor.patch(Database, Replica)
        assert type(given(conductor, Database | None)) is Replica


class TestOptional:
    """``T | None`` is handed over if there is one, and does not make one."""

    def test_absent(self):
        """The attribute is None."""
        assert given(Conductor(), Database | None) is None

    def test_present_for_another_reason(self):
        """Somebody else needs it, so it is there, and started before."""
        conductor = Conductor()
        other = conductor.add(type("Other", (Component,), {"__annotations__": {"db": Database}}))
        assert given(conductor, Database | None) is other.db
        assert conductor.graph().nodes[0].name == "Database"

    def test_in_stages(self):
        """Objects that are no components get the same."""

        class Stage(Transport):
            db: Database | None

        for is_there in (False, True):
            conductor = Conductor()
            conductor.require(Stage)
            stage = Stage()
            if is_there:
                conductor.add(type("Other", (Component,), {"__annotations__": {"db": Database}}))
            with conductor:
                conductor.inject(stage)
                assert (stage.db is not None) is is_there


class TestErrors:
    """What cannot be resolved is an error, never silence; nothing was started."""

    def test_an_unknown_name(self):
        """It says which class and attribute, in which module, why, and what to do."""
        with pytest.raises(
            ResourceError,
            match=rf"User.it: its annotation 'Nope' .* module {__name__} \(NameError: .*it = None",
        ):
            given(Conductor(), "Nope")

    @pytest.mark.parametrize("annotation", ["Optional[Nope]", "logging.Nope", "a b", "Nope | int"])
    def test_other_mistakes(self, annotation):
        """Attributes, syntax, parts."""
        with pytest.raises(ResourceError, match="cannot be resolved"):
            given(Conductor(), annotation)

    def test_an_attribute_that_has_a_value(self):
        """It was no resource, so nothing is missing."""

        class User(Component):
            it: "Nope" = 3  # noqa: F821

        class Other(Component):
            it: "Nope"  # noqa: F821

            def __init__(self):
                self.it = 4

        conductor = Conductor()
        user, other = conductor.add(User), conductor.add(Other)
        with conductor:
            assert (user.it, other.it) == (3, 4)

    def test_a_union_of_components(self):
        """It does not say which one."""
        with pytest.raises(ResourceError, match=r"Database \| User.*: name one class"):
            given(Conductor(), Database | type("User", (Component,), {}))

    def test_what_cannot_be_made(self):
        """The error names the class, and its cause is what the constructor raised."""

        class Needy(Component):
            def __init__(self, dsn):
                pass

        with pytest.raises(ComponentError, match=r"Needy, in __init__\(\): TypeError.*dsn") as info:
            given(Conductor(), Needy)
        assert info.value.component is Needy

    def test_an_optional_circle(self):
        """An optional need counts where it is met."""

        class First(Component):
            second: "Optional[Second]"  # noqa: UP045

        class Second(Component):
            first: First

        First.__annotations__["second"] = Second | None
        conductor = Conductor()
        conductor.add(Second)
        with pytest.raises(CircularDependencyError):
            conductor.setup()


class TestInject:
    """Any object gets what its class names."""

    class Stage(Transport):
        db: Database
        count: int

    def test_what_was_required_is_up(self):
        """require() before, inject() after."""
        conductor = Conductor()
        conductor.require(self.Stage)
        stage = self.Stage()
        with conductor:
            conductor.inject(stage)
            assert stage.db is conductor[Database]
            assert not hasattr(stage, "count")
            assert [node.state for node in conductor.graph().nodes] == ["started"]

    def test_what_was_not_required(self):
        """It is not up, and handing it over would be wrong."""
        with Conductor() as conductor, pytest.raises(ResourceError, match="call require"):
            conductor.inject(self.Stage())

    def test_threads(self):
        """How many use it is the sum over all stages that do, directly or not."""

        class Repository(Component):
            db: Database
            again: Database

        class Other(Transport):
            repository: Repository
            db: Database

        conductor = Conductor()
        conductor.require(self.Stage, threads=16)
        conductor.require(Other, threads=4)
        unused = conductor.add(Replica, name="unused")
        conductor.add(Database)
        with conductor:
            assert conductor[Database].threads == 20
            assert conductor[Repository].threads == 4
            assert unused.threads == 1


def test_what_is_asked_for_by_key():
    """Classes, names, and the names of the graph."""
    conductor = Conductor()
    database = conductor.add(Database)
    for key in (Database, "Database"):
        with conductor:
            assert conductor[key] is database
    for key in (Replica, "Replica"):
        with pytest.raises(LookupError, match="the conductor has no Replica"):
            conductor[key]


def test_changes_while_it_is_up():
    """What would have no effect is refused; what is up already can be added again."""
    conductor = Conductor()
    database = conductor.add(Database)
    named = conductor.add(Replica, name="named")
    with conductor:
        assert conductor.add(Database) is database
        assert conductor.add(database) is database
        assert conductor.add(Replica, name="named") is named
        for change in (
            lambda: conductor.add(type("New", (Component,), {})),
            lambda: conductor.add(Database, name="other"),
            lambda: conductor.patch(Database, Replica),
        ):
            with pytest.raises(ComponentStateError, match=r"after setup\(\)"):
                change()


@pytest.mark.parametrize("name", ["config", "logger", "loop", "threads"])
def test_names_of_the_base_class(name):
    """What m3 itself gives to a component is not taken from a resource of that name."""
    conductor = Conductor(config={})
    conductor.add(object(), name=name)
    conductor.require(type("Stage", (Transport,), {}))
    database = conductor.add(Database)
    with conductor:
        assert getattr(database, name) is not conductor[name]


def test_an_attribute_that_cannot_be_set(caplog):
    """The error is that of the component, and what was set up is shut down."""

    class Stubborn(Component):
        db: Database

        @property
        def db(self):
            return None

    conductor = Conductor()
    conductor.add(Stubborn)
    with pytest.raises(ComponentError, match=r"Stubborn, in setup\(\): AttributeError"):
        conductor.setup()
    assert [node.state for node in conductor.graph().nodes] == ["stopped", "failed"]


def test_mixins_and_overriding():
    """Bases of any kind may name components, and the nearest class counts."""

    class Logged:
        log: Database

    class Base(Component):
        db: Database
        log: Replica

    class User(Logged, Base):
        db: Replica

    class NoLonger(Base):
        db: int

    conductor = Conductor()
    user, other = conductor.add(User), conductor.add(NoLonger)
    conductor.add(Database)
    with conductor:
        assert (type(user.log), type(user.db)) == (Database, Replica)
        assert not hasattr(other, "db")
