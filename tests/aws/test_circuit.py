"""A region that keeps failing is left alone for a while."""

import pytest

from m3.aws.circuit import FAILURES, PAUSE, Circuit

ERROR = ConnectionError("no route")


@pytest.fixture
def clock():
    class Clock:
        now = 50.0

        def __call__(self):
            return self.now

    return Clock()


@pytest.fixture
def circuit(clock):
    return Circuit(clock=clock)


def fail(circuit, times=FAILURES):
    for _ in range(times):
        circuit.failed(ERROR)


def test_it_opens_after_failures_in_a_row(circuit):
    """Three in a row open it; a success between them starts the count again."""
    fail(circuit, 2)
    circuit.succeeded()
    fail(circuit, 2)
    assert (circuit.state, circuit.allows(), circuit.error) == ("closed", True, ERROR)
    fail(circuit, 1)
    assert (circuit.state, circuit.allows()) == ("open", False)


def test_one_caller_tries_after_the_pause(circuit, clock):
    """Half-open, it lets one call through, and the next only after another pause."""
    fail(circuit)
    clock.now += PAUSE
    assert circuit.state == "half-open"
    assert [circuit.allows() for _ in range(3)] == [True, False, False]
    clock.now += PAUSE
    assert [circuit.allows() for _ in range(2)] == [True, False]


def test_the_trial_decides(circuit, clock):
    """A success closes it; a failure opens it for another pause."""
    fail(circuit)
    clock.now += PAUSE
    assert circuit.allows()
    circuit.failed(ERROR)
    assert circuit.state == "open"
    clock.now += PAUSE
    assert circuit.allows()
    circuit.succeeded()
    assert (circuit.state, circuit.allows(), circuit.error) == ("closed", True, None)
