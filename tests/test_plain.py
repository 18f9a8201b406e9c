"""Plain values, written and read back."""

import contextlib
import enum
import json
import math
from collections import namedtuple
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from fractions import Fraction
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from m3._plain import _READERS, DEPTH, dumps, loads
from m3.errors import NotPlainError

ZONES = st.one_of(
    st.none(),
    st.builds(timezone, st.timedeltas(timedelta(hours=-23), timedelta(hours=23))),
    st.sampled_from(["UTC", "Europe/Berlin", "America/St_Johns", "Asia/Kathmandu"]).map(ZoneInfo),
)
FOLDS = st.integers(0, 1)
SCALARS = st.one_of(
    *(st.none(), st.booleans(), st.integers(), st.floats(), st.binary()),
    st.text(st.characters()),  # with lone surrogates, too
    st.binary().map(bytearray),
    st.builds(lambda when, fold: when.replace(fold=fold), st.datetimes(timezones=ZONES), FOLDS),
    st.builds(lambda when, fold: when.replace(fold=fold), st.times(timezones=ZONES), FOLDS),
    *(st.dates(), st.timedeltas(), st.decimals(), st.uuids()),
    st.decimals().map(lambda number: number.scaleb(7) if number.is_finite() else number),
)
KEYS = st.recursive(
    SCALARS.filter(lambda value: not isinstance(value, bytearray)).filter(
        lambda value: not (isinstance(value, Decimal) and value.is_snan())
    ),
    lambda inner: st.lists(inner, max_size=3).map(tuple),
    max_leaves=4,
)
NAMES = st.sampled_from(["$", "$dict", "$bytes", "$x", "a", ""]) | st.text(max_size=3)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(NAMES, inner, max_size=4),
        st.dictionaries(KEYS, inner, max_size=3),
    ),
    max_leaves=15,
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.text(max_size=3), inner, max_size=3),
        st.builds(
            lambda tag, value: {tag: value},
            st.sampled_from([*_READERS, "$other", "$"]),
            inner,
        ),
        st.tuples(st.sampled_from(["2026-01-01T00:00", "12:00"]), FOLDS, NAMES).map(
            lambda words: {"$datetime": list(words)}
        ),
    ),
    max_leaves=10,
)

Point = namedtuple("Point", "x y")  # noqa: PYI024 - as users have them


def shown(value):
    """Return what is the same for the same values only: 1 is not True, and NaN is NaN."""
    if isinstance(value, (list, tuple)):
        return [type(value), [shown(inner) for inner in value]]
    if isinstance(value, dict):
        return [dict, [(shown(key), shown(inner)) for key, inner in value.items()]]
    if isinstance(value, int):
        return [type(value), hex(value)]
    if isinstance(value, (datetime, time)):
        return [type(value), str(value), value.fold, zone_of(value.tzinfo)]
    return [type(value), str(value)]


def zone_of(zone):
    return zone.key if isinstance(zone, ZoneInfo) else zone and zone.utcoffset(None)


@given(VALUES)
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_the_same_comes_back(value):
    """What is written is one line of ASCII, and reads as the same values of the same types."""
    text = dumps(value)
    assert text.isascii()
    assert text.isprintable()
    assert shown(loads(text)) == shown(value)


@pytest.mark.parametrize(
    "value",
    [
        -0.0,
        math.nan,
        -math.inf,
        10**5000,
        -(10**400),
        2**1023,
        2**1024,
        "\ud83d\ude00",
        "a\udcff\ud83d\ude00\ud83d",
        {"\ud83d\ude00": 1},
        {"$tuple": [1]},
        {"$": 1, "$b": 2},
        {1: 2, "1": 3, None: 4, (1, b"x"): 5},
        {},
        (),
        [()],
        Decimal("-sNaN123"),
        Decimal("-0E+7"),
        datetime(2026, 10, 25, 2, 30, fold=1, tzinfo=ZoneInfo("Europe/Berlin")),
        datetime(1, 1, 1, tzinfo=UTC),
        datetime.fromisoformat("2026-01-01").replace(fold=1),
        time(2, 30, fold=1, tzinfo=ZoneInfo("Europe/Berlin")),
        datetime(2026, 1, 1, tzinfo=timezone(timedelta(microseconds=-1))),
        timedelta.min,
        date.max,
        UUID(int=0),
    ],
    ids=lambda value: type(value).__name__,
)
def test_edges(value):
    """Integers of any length, halves of characters, zones and folds come back, too."""
    assert shown(loads(dumps(value))) == shown(value)


def test_named_tuples_become_tuples():
    """A named tuple is read back as a tuple with the same values."""
    assert shown(loads(dumps(Point(1, Point(2, "a"))))) == shown((1, (2, "a")))


class Text(str):
    __slots__ = ()


class Color(enum.IntEnum):
    RED = 1


class Zone(tzinfo):
    def utcoffset(self, _):
        return timedelta(0)


class Unshowable:
    def __repr__(self):
        raise RuntimeError("no")


@pytest.mark.parametrize(
    "value",
    [
        *(object(), Unshowable(), {1}, frozenset(), 1j, Fraction(1, 2), range(3), iter([])),
        *(Text("a"), Color.RED, memoryview(b""), len, int, ..., ValueError("x"), Point),
        *(datetime(2026, 1, 1, tzinfo=Zone()), time(1, tzinfo=Zone())),
    ],
    ids=lambda value: type(value).__name__,
)
@pytest.mark.parametrize("place", [lambda v: v, lambda v: [v], lambda v: {"a": (v,)}])
def test_everything_else_is_refused(value, place):
    """What would come back as something else, or not at all, is refused, wherever it stands."""
    with pytest.raises(NotPlainError):
        dumps(place(value))


def test_what_cannot_be_kept_is_named():
    """The message names the type and shows the value."""
    with pytest.raises(NotPlainError, match=r"a Fraction cannot be kept .*Fraction\(1, 2\)"):
        dumps({"position": Fraction(1, 2)})


@pytest.mark.parametrize("wrap", [lambda v: [v], lambda v: (v,), lambda v: {1: v}])
def test_depth(wrap):
    """Up to 100 values inside one another come back; more are refused, as are circles."""
    value = None
    for _ in range(DEPTH):
        value = wrap(value)
    assert loads(dumps(value)) == value
    with pytest.raises(NotPlainError, match="more than 100"):
        dumps(wrap(value))
    circle = []
    circle.append(wrap(circle))
    with pytest.raises(NotPlainError, match="inside itself"):
        dumps(circle)


@given(JSON)
@settings(max_examples=500, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_foreign_json(value):
    """Any other JSON is read as something, or refused with ValueError and nothing else."""
    for text in (json.dumps(value), json.dumps(value, allow_nan=True, ensure_ascii=False)):
        with contextlib.suppress(ValueError):
            loads(text)


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "NaN", "Infinity", "1" * 5000, "[" * 100_000, '{"$tuple":' * 5000),
        *('{"$uuid":5}', '{"$uuid":"x"}', '{"$dict":[[[],1]]}', '{"$dict":[[1]]}', '{"$int":5}'),
        *('{"$decimal":"x"}', '{"$timedelta":[1e400]}', '{"$timedelta":{"a":1}}', '{"$new":1}'),
        *('{"$datetime":["2026-01-01",0,"Europe"]}', '{"$datetime":["2026-01-01",0,"No/Where"]}'),
        *('{"$datetime":["2026-01-01",0,"../../etc/passwd"]}', '{"$time":["12:00",2,null]}'),
        *('{"$datetime":5}', '{"$date":null}', '{"$bytes":"é"}', '{"$bytes":"a"}', '{"$str":[1]}'),
        *('{"$float":"x"}', '{"$float":[]}', '{"$tuple":5}', '{"$bytearray":5}'),
    ],
    ids=lambda text: text[:40],
)
def test_damaged_text(text):
    """What was never written is refused with ValueError."""
    with pytest.raises(ValueError):
        loads(text)


def test_no_code_is_run():
    """Nothing that is read back is looked up by its name."""
    with pytest.raises(ValueError, match="stands for no kind"):
        loads('{"$os.system":"true"}')
    assert loads(dumps({"$uuid": "x", "y": uuid4().hex}))["$uuid"] == "x"
