"""Many calls at once: nobody gets the answer of another, and nothing is left behind."""

import threading

import pytest

from m3.services import ClusterRpcProxy, Service, ServiceContainer, rpc, run_services

CALLERS = 8
CALLS = 40


class Echo:
    name = "echo"

    @rpc
    def echo(self, value):
        return value

    @rpc
    def fail(self, value):
        raise LookupError(value)


class Relay:
    name = "relay"
    echo = Service("echo")

    @rpc
    def relay(self, value):
        replies = [self.echo.echo.call_async([value, number]) for number in range(3)]
        return [reply.result() for reply in replies]


@pytest.mark.usefixtures("hurried")
def test_every_caller_gets_its_own_answer(serve, cluster):
    """Results and errors of calls that overlap are not mixed up."""
    serve(Echo, Relay)
    wrong = []

    def call(caller):
        for number in range(CALLS):
            mine = [caller, number]
            if cluster.relay.relay(mine) != [[mine, copy] for copy in range(3)]:
                wrong.append(mine)
            try:
                cluster.echo.fail(mine)
            except Exception as error:
                if str(mine) not in str(error):
                    wrong.append(error)

    callers = [threading.Thread(target=call, args=(number,)) for number in range(CALLERS)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert wrong == []


@pytest.mark.usefixtures("hurried")
def test_a_service_that_is_killed_among_others_loses_no_call(serve, config, cluster):
    """Its calls come to another instance: each caller gets an answer."""
    serve(Echo)
    ends = threading.Event()
    wrong = []

    def call(caller):
        number = 0
        while not ends.is_set():
            number += 1
            if cluster.echo.echo([caller, number]) != [caller, number]:
                wrong.append((caller, number))

    callers = [threading.Thread(target=call, args=(number,)) for number in range(4)]
    for caller in callers:
        caller.start()
    for _ in range(10):
        container = ServiceContainer(Echo, config)
        container.start()
        container.spawn_worker("echo", (1,)).result(20)
        container.kill()
    ends.set()
    for caller in callers:
        caller.join()
    assert wrong == []


@pytest.mark.usefixtures("hurried")
def test_services_start_and_stop_beside_each_other(config, bus):
    """Several runners in one process do not disturb each other."""
    problems = []

    def live(number):
        try:
            service = type("Own", (Echo,), {"name": f"own{number}"})
            for _ in range(4):
                with run_services(config, service), ClusterRpcProxy(config) as cluster:
                    assert cluster[f"own{number}"].echo(number) == number
        except BaseException as error:
            problems.append(error)

    lives = [threading.Thread(target=live, args=(number,)) for number in range(4)]
    for life in lives:
        life.start()
    for life in lives:
        life.join()
    assert problems == []
