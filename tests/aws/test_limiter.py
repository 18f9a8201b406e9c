"""One rate for all who call a service in a region, once it has asked for that."""

import threading

import pytest
from botocore.retries.standard import ThrottledRetryableChecker

from m3.aws.limiter import THROTTLED, Limiter


class Clock:
    """A clock that goes on when somebody sleeps."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def limiter(clock):
    return Limiter(clock=clock, sleep=clock.sleep)


def answers(limiter, clock, *, rate, count=100):
    """Have *count* requests answered at *rate* per second."""
    for _ in range(count):
        limiter.acquire()
        clock.now += 1 / rate
        limiter.succeeded()


def test_there_is_no_limit_before_the_first_throttling(limiter, clock):
    """Requests go through without waiting."""
    before = clock.now
    for _ in range(1000):
        limiter.acquire()
    assert (clock.now, limiter.rate) == (before, None)


def test_throttling_limits_to_a_part_of_what_was_answered(limiter, clock):
    """After answers at 100 per second, 70 per second are let through."""
    answers(limiter, clock, rate=100)
    limiter.slow_down()
    assert limiter.rate == pytest.approx(70, rel=0.02)


def test_the_limit_is_kept(limiter, clock):
    """In the first second no more requests go through than the limit says."""
    answers(limiter, clock, rate=100)
    limiter.slow_down()
    before, sent = clock.now, 0
    while clock.now < before + 1:
        limiter.acquire()
        sent += 1
    assert 68 <= sent <= 85  # it grows meanwhile


def test_many_answers_to_one_burst_count_once(limiter, clock):
    """Twenty requests in flight that are all throttled lower the rate once."""
    answers(limiter, clock, rate=100)
    for _ in range(20):
        limiter.slow_down()
    assert limiter.rate == pytest.approx(70, rel=0.02)


def test_each_further_round_lowers_it(limiter, clock):
    """Throttled again after a second, the rate falls again."""
    answers(limiter, clock, rate=100)
    limiter.slow_down()
    first = limiter.rate
    clock.now += 1.0
    limiter.slow_down()
    assert limiter.rate < first


def test_it_settles_at_what_the_service_allows(limiter, clock):
    """A service that allows 50 per second is soon called at about that rate, not at 500."""
    allowed, rates = 50, []
    for _ in range(60):
        end = clock.now + 1
        taken = good = 0
        while clock.now < end:
            limiter.acquire()
            clock.now += 1 / 500
            taken += 1
            if good < allowed:
                good += 1
                limiter.succeeded()
            else:
                limiter.slow_down()
        rates.append(taken)
    late = sum(rates[20:]) / 40
    assert rates[0] > 200
    assert 0.6 * allowed < late < 1.4 * allowed


def test_it_is_lifted_in_the_end(limiter, clock):
    """Without further throttling the rate grows to twice where it was, and then there is none."""
    answers(limiter, clock, rate=100)
    limiter.slow_down()
    grown = [limiter.rate]
    while limiter.rate is not None:
        clock.now += 0.5
        limiter.acquire()
        grown.append(limiter.rate)
    assert grown[:-1] == sorted(grown[:-1])
    assert 150 < grown[-2] < 200
    assert clock.now - 1001 < 20


def test_an_early_throttling_costs_seconds_not_a_minute(limiter, clock):
    """Throttled before anything was answered, 300 requests are through in 4 s (botocore: 8)."""
    before = clock.now
    limiter.slow_down()
    answers(limiter, clock, rate=300, count=300)
    assert clock.now - before < 4


def test_idle_time_is_not_saved_up(limiter, clock):
    """After a pause a burst is at most what a second allows."""
    answers(limiter, clock, rate=100)
    limiter.slow_down()
    clock.now += 3.0
    allowed = limiter.rate
    before, sent = clock.now, 0
    while clock.now == before:
        limiter.acquire()
        sent += 1
    assert sent <= allowed + 2


def test_the_codes_are_those_of_botocore():
    """What botocore's standard mode calls throttling is throttling."""
    assert set(ThrottledRetryableChecker._THROTTLED_ERROR_CODES) <= THROTTLED


@pytest.mark.usefixtures("hurried")
def test_threads_share_it(limiter):
    """Eight threads that acquire, succeed and are throttled at the same time all come through."""
    done = []

    def work(number):
        for turn in range(500):
            limiter.acquire()
            limiter.succeeded()
            if turn % 100 == number:
                limiter.slow_down()
        done.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(done) == list(range(8))
