"""A string that is not shown."""

import copy
import json
import logging
import pickle
import threading
from collections import deque

import pytest

from m3 import Secret
from m3._shown import masked
from m3.secret import MOST


@pytest.fixture(autouse=True)
def _unknown(monkeypatch):
    """Let each test begin without secrets, and leave none."""
    monkeypatch.setattr("m3.secret._known", deque(maxlen=MOST))


def test_nothing_shows_it():
    """However it is turned into a text, that is ***; only reveal() returns the string."""
    secret = Secret("swordfish-1")
    shown = [str(secret), repr(secret), f"{secret}", f"{secret!r:>20}", f"{[secret]}"]
    shown += ["%s" % secret, "{:x<9}".format(secret), json.dumps([secret], default=repr)]  # noqa: UP031, UP032
    assert all("***" in text and "swordfish" not in text for text in shown)
    assert secret.reveal() == "swordfish-1"


def test_it_is_no_string():
    """What needs a string does not take it by mistake, and it is made of nothing else."""
    with pytest.raises(TypeError):
        "Bearer " + Secret("swordfish-2")
    for value in (3, b"swordfish", None, Secret("swordfish-2")):
        with pytest.raises(TypeError, match="a secret is a string"):
            Secret(value)


def test_it_is_a_value():
    """Secrets compare by what they hold, and with nothing else; copies are the same."""
    secret = Secret("swordfish-3")
    assert secret == Secret("swordfish-3")
    assert secret != Secret("swordfish-4")
    assert secret != "swordfish-3"
    assert hash(secret) == hash(Secret("swordfish-3"))
    assert copy.deepcopy([secret]) == [copy.copy(secret)]
    assert not Secret("")


def test_it_is_not_pickled():
    """It does not get into a file by chance."""
    with pytest.raises(TypeError, match="a Secret is not pickled"):
        pickle.dumps(Secret("swordfish-5"))


@pytest.mark.parametrize("value", ["swordfish", "two\nlines", "a\"quote'", "päss wörd", "a\\b/c&d"])
def test_texts_are_masked(value):
    """A text that has a secret in it, written in any usual way, is masked."""
    from urllib.parse import quote, quote_plus

    Secret(value)
    data = value.encode()
    ways = [value, repr(value), json.dumps(value), repr(data), quote(value, ""), quote_plus(value)]
    for text in ways:
        assert masked(f"login as x with {text} failed").count("***") == 1
        assert value not in masked(text)


def test_short_strings_are_not_searched_for():
    """A secret of three characters would be found in every other word."""
    Secret("the")
    assert masked("the other") == "the other"


def test_longer_secrets_come_first():
    """Of a secret that begins like another nothing is left over."""
    Secret("sesame")
    Secret("sesame-street")
    assert masked("open sesame-street") == "open ***"


def test_memory_is_bounded():
    """Of very many secrets the latest are searched for."""
    for number in range(MOST + 10):
        Secret(f"number {number:05}")
    assert masked("number 00001") == "number 00001"
    assert masked(f"number {MOST + 9:05}") == "***"


def test_secrets_are_made_in_any_thread():
    """Texts are masked while other threads make secrets."""
    begin = threading.Barrier(4)
    wrong = []

    def make(name):
        begin.wait()
        for number in range(300):
            Secret(f"{name} key {number}")
            text = masked(f"it was {name} key {number}")
            if text != "it was ***":
                wrong.append(text)

    threads = [threading.Thread(target=make, args=(f"thread {n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # Another thread may have made enough of them meanwhile to displace this one's.
    assert len(wrong) < 600


def test_logging_does_not_show_it(caplog):
    """As an argument of a log call it is ***."""
    logging.getLogger("x").warning("key %s", Secret("swordfish-6"))
    assert caplog.messages == ["key ***"]
