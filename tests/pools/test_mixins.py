"""Ways in which backends create themselves, and the default of a pool."""

import threading
import time
from dataclasses import dataclass

import pytest

from m3 import BackendPool, configure
from m3.pools import (
    DefaultBackendMixin,
    MissingSettingError,
    SingletonCreateMixin,
    ThreadSafeCreateMixin,
)
from m3.pools.once import Once


class Single(SingletonCreateMixin):
    def __init__(self, *args, **kwargs):
        self.args, self.kwargs = args, kwargs


class OtherSingle(Single):
    pass


@pytest.fixture(autouse=True)
def forgotten():
    """Begin and end without instances."""
    SingletonCreateMixin.clear_instances()
    yield
    SingletonCreateMixin.clear_instances()


def test_thread_safe_create_makes_a_new_instance():
    """Each call makes one, from its arguments, whatever these are called."""

    class Fresh(ThreadSafeCreateMixin):
        def __init__(self, *args, **kwargs):
            self.args, self.kwargs = args, kwargs

    first, second = (Fresh.create(1, 2, cls=3, self_=4) for _ in range(2))
    assert first is not second
    assert (first.args, first.kwargs) == ((1, 2), {"cls": 3, "self_": 4})


def test_singleton_create_makes_one_instance_per_class():
    """Subclasses have their own, also those that are defined later, and the mixin itself."""
    assert Single.create() is Single.create()
    assert Single.create() is not OtherSingle.create()
    assert SingletonCreateMixin.create() is SingletonCreateMixin.create()
    later = type("Single", (Single,), {"__module__": Single.__module__})
    assert later.create() is not Single.create()


def test_singleton_create_passes_its_arguments_on():
    """Whatever they are called."""
    single = Single.create(1, 2, key=3, make=4)
    assert (single.args, single.kwargs) == ((1, 2), {"key": 3, "make": 4})


def test_the_order_of_keywords_does_not_matter():
    """But which arguments are keywords does, as for functools.cache."""
    assert Single.create(1, a=2, b=3) is Single.create(1, b=3, a=2)
    assert Single.create(1, a=2) is not Single.create(1, 2)


@dataclass
class Options:
    size: int


@pytest.mark.parametrize(
    ("one", "same"),
    [
        ([1, {"a": [2]}], [1, {"a": [2]}]),
        ({"a": 1, "b": {2}}, {"b": {2}, "a": 1}),
        (bytearray(b"x"), bytearray(b"x")),
        (Options(1), Options(1)),
        ((Options(1), 1.0), (Options(1), 1.0)),
    ],
)
def test_equal_arguments_are_one(one, same):
    """Unhashable ones too (in Ramos, these were a TypeError)."""
    assert Single.create(one, option=one) is Single.create(same, option=same)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (-1, -2),
        (1, 2),
        (1, True),
        (1, 1.0),
        ((1,), (True,)),
        ((1,), [1]),
        ({"a": 0}, {"a": False}),
        ([1], [2]),
        (Options(1), Options(2)),
        (b"x", bytearray(b"x")),
        (b"x", "x"),
        ([], None),
    ],
)
def test_different_arguments_are_two(one, other):
    """By value and type: -1 and -2 have the same hash (in Ramos, they shared an instance)."""
    assert Single.create(one) is not Single.create(other)


class Unclear(Exception):
    """Stands for the ValueError of numpy: the truth of an array is ambiguous."""


class Array:
    """As an array of numpy: ``==`` compares the elements, and gives no bool."""

    def __init__(self, *elements):
        self.elements = elements

    __hash__ = None

    def __eq__(self, other):
        return Array(*(a == b for a, b in zip(self.elements, other.elements, strict=False)))

    def __bool__(self):
        raise Unclear


class HashedArray(Array):
    def __hash__(self):
        return 1


class Truthful(Array):
    def __bool__(self):
        return True


class Stubborn(Array):
    __hash__ = None

    def __eq__(self, other):
        raise Unclear


class Unhashed(Stubborn):
    def __hash__(self):
        raise Unclear


@pytest.mark.parametrize("kind", [Array, HashedArray, Truthful, Stubborn, Unhashed])
@pytest.mark.parametrize(
    "within",
    [lambda it: it, lambda it: [it], lambda it: {"it": (it,)}],
    ids=["itself", "listed", "nested"],
)
def test_arguments_that_do_not_say_whether_they_are_equal(kind, within):
    """Each such object is its own argument, and none breaks what is asked for later."""
    one, other = kind(1, 2), kind(1, 2)
    first = Single.create(within(one), 3)
    assert Single.create(within(other), 3) is not first
    assert Single.create(within(kind(1, 2, 3)), 3) is not first
    assert Single.create(within(one), 3) is first
    assert Single.create(1) is Single.create(1)


def test_arrays_of_numpy():
    """The same with the real ones, however many elements they have."""
    numpy = pytest.importorskip("numpy")
    arrays = [numpy.array(value) for value in (1, [1], [1], [1, 2], [1, 2], [1, 2, 3])]
    singles = [Single.create(array) for array in arrays]
    assert len({id(single) for single in singles}) == len(arrays)
    assert [Single.create(array) for array in arrays] == singles
    assert Single.create(numpy.int64(1)) is Single.create(numpy.int64(1))
    assert Single.create(numpy.int64(1)) is not Single.create(1)


def test_an_argument_that_is_changed_afterwards():
    """What counts is the value at the call."""
    hosts = ["a"]
    first = Single.create(hosts)
    hosts.append("b")
    assert Single.create(hosts) is not first
    assert Single.create(["a"]) is first


def test_a_create_that_raises_is_not_remembered():
    """The next call tries again."""
    answers = [OSError("down"), None]

    class Fails(SingletonCreateMixin):
        def __init__(self):
            if (error := answers.pop(0)) is not None:
                raise error

    with pytest.raises(OSError, match="down"):
        Fails.create()
    assert Fails.create() is Fails.create()


def test_a_constructor_that_creates_itself_says_so():
    """It is an endless recursion, and not a wait for ever."""

    class Endless(SingletonCreateMixin):
        def __init__(self):
            self.create()

    with pytest.raises(RecursionError):
        Endless.create()


def test_instances_can_be_forgotten():
    """Those of a class and its subclasses, or one instance."""
    singles = Single.create(1), Single.create(2), OtherSingle.create()
    OtherSingle.clear_instances()
    assert OtherSingle.create() is not singles[2]
    Single.forget_instance(singles[0])
    assert Single.create(1) is not singles[0]
    assert Single.create(2) is singles[1]
    other = OtherSingle.create()
    Single.clear_instances()
    assert Single.create(2) is not singles[1]
    assert OtherSingle.create() is not other


@pytest.mark.timeout(120)
def test_singleton_once(race):
    """1,000 threads that create at once make one instance (in Ramos, several)."""
    made = []

    class Counted(SingletonCreateMixin):
        def __init__(self, key):
            time.sleep(0.001)  # others may run now
            made.append(key)

    instances = race(*[lambda key=number % 2: Counted.create([key]) for number in range(1000)])
    assert sorted(made) == [[0], [1]]
    assert len(set(instances)) == 2


def test_singletons_do_not_wait_for_each_other():
    """While one is being made, another one can be."""
    started, go_on = threading.Event(), threading.Event()

    class Slow(SingletonCreateMixin):
        def __init__(self, name):
            if name == "slow":
                started.set()
                go_on.wait(30)

    slow = threading.Thread(target=Slow.create, args=["slow"])
    slow.start()
    assert started.wait(30)
    assert Slow.create("fast") is Slow.create("fast")
    go_on.set()
    slow.join()


# -- defaults ---------------------------------------------------------------------


class Hi(ThreadSafeCreateMixin):
    id = "hi"

    def __init__(self, name=None):
        self.name = name


class Greetings(DefaultBackendMixin, BackendPool):
    backend_type = "greeting"
    SETTINGS_KEY = "DEFAULT_GREETING"


def test_the_default_is_named_by_a_setting():
    """A setting of configure() as well, in which Ramos had none; arguments are passed on."""
    configure(pools={"greeting": [Hi]}, settings={"DEFAULT_GREETING": "hi"})
    assert isinstance(Greetings.get_default(), Hi)
    assert Greetings.get_default(name="Ada").name == "Ada"


def test_a_default_without_its_setting():
    """An AttributeError, as in Ramos, that names the setting."""
    configure(pools={"greeting": [Hi]})
    with pytest.raises(AttributeError, match="'DEFAULT_GREETING'") as refused:
        Greetings.get_default()
    assert isinstance(refused.value, MissingSettingError)


def test_a_default_without_the_name_of_its_setting():
    """The same error says what the class lacks."""
    with pytest.raises(AttributeError, match="SETTINGS_KEY"):
        DefaultBackendMixin.get_default()


def test_two_that_forget_the_same_instance():
    """What was made since in the place of a forgotten thing is not forgotten with it."""
    once = Once()
    old = once.get("key", object)

    def is_meant(_, thing):
        once.forget(lambda _, other: other is old)
        once.get("key", object)
        return thing is old

    once.forget(is_meant)
    new = once.made()["key"]
    assert new is not old
    assert once.get("key", object) is new
