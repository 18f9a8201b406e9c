"""From ids to classes: what is imported, what is refused."""

import sys
from abc import ABC, abstractmethod
from typing import ClassVar, Protocol, runtime_checkable

import pytest

from m3 import BackendPool, configure
from m3.errors import ConfigError
from m3.pools import ImproperlyConfigured, InvalidBackendError, ThreadSafeCreateMixin

BACKEND = """
class Backend:
    id = {id!r}

    @classmethod
    def create(cls):
        return cls()
"""


class Greetings(BackendPool):
    backend_type = "greeting"


class Hi(ThreadSafeCreateMixin):
    id = "hi"


class Hi2(ThreadSafeCreateMixin):
    id = "hi"


class Bye(ThreadSafeCreateMixin):
    id = "bye"


@pytest.fixture
def three(module):
    """Return the paths of three backends, a, broken and c, of which none is imported yet."""
    module("m_a", BACKEND.format(id="a"))
    module("m_broken", "raise OSError('no such device')")
    module("m_c", BACKEND.format(id="c"))
    return {"a": "m_a.Backend", "broken": "m_broken:Backend", "c": "m_c:Backend"}


def imported():
    return {name for name in ("m_a", "m_broken", "m_c") if name in sys.modules}


def test_a_path_is_written_in_two_ways_or_is_the_class_itself(three):
    """``pkg.mod.Name``, ``pkg.mod:Name`` and the class are all the same."""
    configure(pools={"greeting": [three["a"], three["c"], Hi]})
    assert [each.id for each in Greetings.all_classes()] == ["a", "c", "hi"]


def test_of_paths_nothing_behind_the_one_asked_for_is_imported(three):
    """The search ends where the id is found."""
    configure(pools={"greeting": list(three.values())})
    assert Greetings.get_class("a").id == "a"
    assert imported() == {"m_a"}


def test_a_broken_backend_does_not_break_the_others(three):
    """What cannot be imported is passed over (in Ramos it broke all backends behind it)."""
    configure(pools={"greeting": list(three.values())})
    assert Greetings.get_class("c").id == "c"


@pytest.mark.parametrize("give", [dict, lambda three: [*three.values(), Hi]])
def test_where_the_id_is_known_only_that_backend_is_imported(three, give):
    """A mapping and a class tell ids without importing anything."""
    configure(pools={"greeting": give(three)})
    wanted = "c" if give is dict else "hi"
    assert Greetings.get_class(wanted).id == wanted
    assert imported() == ({"m_c"} if give is dict else set())


def test_a_broken_backend_asked_for_says_why(three):
    """The error has the exception of its module as its cause."""
    configure(pools={"greeting": three})
    with pytest.raises(ConfigError, match=r"'m_broken' raised .*no such device") as refused:
        Greetings.get_class("broken")
    assert isinstance(refused.value.__cause__, OSError)


def test_an_unknown_id_is_told_with_all_there_is_to_know(three):
    """The error names what is near, what there is, and what could not be loaded and why."""
    configure(pools={"greeting": [*three.values(), Hi]})
    with pytest.raises(InvalidBackendError) as refused:
        Greetings.get("hii")
    error = refused.value
    assert (error.backend_type, error.backend_id) == ("greeting", "hii")
    assert set(error.available_backends) == {"a", "c", "hi"}
    assert error.near == ("hi",)
    assert str(error) == error.error_message
    assert error.error_message.startswith("Invalid greeting backend: hii; did you mean 'hi'?")
    assert "m_broken:Backend is left out: ConfigError: the module 'm_broken' raised" in str(error)
    assert isinstance(error.__cause__, ConfigError)
    assert isinstance(error, LookupError)


def test_a_broken_backend_is_tried_again(three, module):
    """Who repairs a module need not start the process again."""
    configure(pools={"greeting": [three["broken"]]})
    with pytest.raises(InvalidBackendError):
        Greetings.get("b")
    module("m_broken", BACKEND.format(id="b") + "\n# repaired")
    assert Greetings.get_class("b").id == "b"


@pytest.mark.parametrize("ask", [lambda: Greetings.get("hi"), Greetings.all, Greetings.all_classes])
@pytest.mark.parametrize("give", [lambda each: each, lambda each: f"{__name__}:{each.__name__}"])
def test_two_backends_of_one_id_are_refused(ask, give, monkeypatch):
    """The error has both paths; it comes as soon as both are imported."""
    monkeypatch.setitem(sys.modules, __name__, sys.modules[Hi.__module__])
    configure(pools={"greeting": [give(Hi), give(Bye), give(Hi2)]})
    for _ in range(2):
        with pytest.raises(ImproperlyConfigured, match=r"two .* the id 'hi': .*Hi.* and .*Hi2"):
            ask()


def test_a_second_backend_of_an_id_is_not_imported_to_be_refused(module):
    """Only what is imported anyway is compared."""
    module("m_a", BACKEND.format(id="hi"))
    configure(pools={"greeting": [Hi, "m_a.Backend"]})
    assert Greetings.get_class("hi") is Hi
    assert imported() == set()
    with pytest.raises(ImproperlyConfigured, match="two"):
        Greetings.all()


def test_a_mapping_gives_backends_the_ids_that_they_have():
    """An id that differs from that of the class is refused."""
    configure(pools={"greeting": {"hello": Hi}})
    with pytest.raises(ImproperlyConfigured, match=r"'hello' is .*Hi.*, whose id is 'hi'"):
        Greetings.get("hello")


@pytest.mark.parametrize(
    ("backend", "missing"),
    [
        (type("NoId", (ThreadSafeCreateMixin,), {}), "no id"),
        (type("NoCreate", (), {"id": "x"}), "no create"),
        (object(), "no id, no create"),
        ("json.dumps", "no id, no create"),
    ],
)
def test_what_is_no_backend_is_refused(backend, missing):
    """The error says what it is that is missing."""
    configure(pools={"greeting": [backend]})
    with pytest.raises(ImproperlyConfigured, match=f"cannot be a 'greeting' backend: .*{missing}$"):
        Greetings.all()
    with pytest.raises(ConfigError, match=missing):
        Greetings.get("x")


class Storage(ABC):
    @abstractmethod
    def read(self): ...

    @property
    @abstractmethod
    def size(self): ...

    def copy(self):
        return self.read()


class Sized(Protocol):
    id: ClassVar[str]
    bucket: str

    def read(self): ...

    def write(self, data): ...


@runtime_checkable
class Writing(Sized, Protocol):
    def flush(self): ...


class Whole(ThreadSafeCreateMixin):
    id = "whole"
    size = 3

    def read(self): ...

    def write(self, data): ...

    def flush(self): ...


class Inherits(ThreadSafeCreateMixin, Storage):
    id = "inherits"

    def read(self): ...


class Complete(Inherits):
    size = 1


@pytest.mark.parametrize(
    ("interface", "backend", "missing"),
    [
        (Storage, Whole, "no base Storage"),
        (Storage, Inherits, "no size"),
        (Storage, Hi, "no read, no size, no base Storage"),
        (Storage, Complete, None),
        (Sized, Whole, None),
        (Sized, Inherits, "no write"),
        (Sized, Hi, "no read, no write"),
        (Writing, Hi, "no flush, no read, no write"),
        (Writing, Whole, None),
        (Whole, Hi, "no base Whole"),
        (Whole, Whole, None),
    ],
)
def test_an_interface_is_checked(interface, backend, missing):
    """An abstract class, a protocol or any class: what is missing is named."""
    pool = type("Checked", (Greetings,), {"interface": interface})
    configure(pools={"greeting": [backend]})
    if missing is None:
        assert pool.all_classes() == [backend]
        return
    with pytest.raises(ImproperlyConfigured) as refused:
        pool.all_classes()
    assert str(refused.value).endswith(f"'greeting' backend: it has {missing}")
    assert Greetings.all_classes() == [backend]


def test_a_class_registered_with_an_abstract_class_fulfils_it():
    """As for isinstance, registration counts."""

    class Store(ABC):
        @abstractmethod
        def read(self): ...

    Store.register(Whole)
    pool = type("Checked", (Greetings,), {"interface": Store})
    configure(pools={"greeting": [Whole]})
    assert pool.all_classes() == [Whole]


def test_first_requests_race(three, race):
    """Many threads that ask for the first time get the same classes, and no error."""
    configure(pools={"greeting": list(three.values())})
    found = race(*[lambda each=each: Greetings.get_class(each) for each in "ac" * 20])
    assert [each.id for each in found] == list("ac") * 20
    assert len(set(found)) == 2


def test_a_module_may_use_the_pool_while_it_is_imported(module, race):
    """A backend's module asks the pool that imports it, in several threads: nobody hangs."""
    module(
        "m_a",
        BACKEND.format(id="a")
        + """
from m3 import BackendPool

class Greetings(BackendPool):
    backend_type = "greeting"

Greetings.get_class("a")
""",
    )
    module("m_c", "import m_a\n" + BACKEND.format(id="c"))
    configure(pools={"greeting": ["m_a.Backend", "m_c.Backend"]})
    found = race(*[lambda each=each: Greetings.get_class(each) for each in "ca" * 4])
    assert [each.id for each in found] == list("ca") * 4
