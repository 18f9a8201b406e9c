"""create(): the keywords, defaults and refusals of os-m3-engine, and its bugs gone."""

import sys
from types import SimpleNamespace

import pytest

from m3 import Backend, Batch, Engine, Frontend, Retry, Transport, create
from m3.engine import Plan
from m3.errors import ConfigError, StageError, UnknownNameError


class Source(Frontend):
    def produce(self):
        yield from range(5)


class Middle(Transport):
    def transport(self, data):
        return data + 1


class Sink(Backend):
    kept = ()

    def process(self, data):
        type(self).kept += (data,)


@pytest.fixture(autouse=True)
def empty_sink():
    Sink.kept = ()


def workers_of(engine):
    return {spec.kind: spec.workers for spec in engine.plan}


def test_three_stages():
    """A frontend, a transport and a backend, as classes; start() blocks until all is done."""
    report = create(frontend_cls=Source, transport_cls=Middle, backend_cls=Sink).start()
    assert sorted(Sink.kept) == [1, 2, 3, 4, 5]
    assert report.delivered == 5


def test_two_stages():
    """The transport or the backend may be left out."""
    report = create(frontend_cls=Source, transport_cls=None, backend_cls=Sink).start()
    assert sorted(Sink.kept) == [0, 1, 2, 3, 4]
    assert create(frontend_cls=Source, transport_cls=Middle, backend_cls=None).start().ok
    assert report.ok


def test_dotted_paths(tmp_path, monkeypatch):
    """Stages may be named by their path, in either way of writing it."""
    (tmp_path / "stages_of_mine.py").write_text(
        "from m3 import Frontend, Transport\n"
        "class One(Frontend):\n"
        "    def produce(self):\n"
        "        yield 1\n"
        "class Two(Transport):\n"
        "    def transport(self, data):\n"
        "        return data * 2\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    create("stages_of_mine.One", "stages_of_mine:Two", Sink).start()
    assert Sink.kept == (2,)
    del sys.modules["stages_of_mine"]


def test_the_default_engine_reads_stdin():
    """create() without arguments has the three ready-made stages."""
    engine = create()
    assert isinstance(engine, Engine)
    assert [spec.target.__name__ for spec in engine.plan] == [
        "StdinFrontend",
        "LogTransport",
        "LogBackend",
    ]


def test_thread_counts():
    """One frontend, three transports, one backend; thread_num says otherwise."""
    assert workers_of(create(Source, Middle, Sink)) == {
        "frontend": 1,
        "transport": 3,
        "backend": 1,
    }
    engine = create(
        Source,
        Middle,
        Sink,
        engine_frontend_config=SimpleNamespace(thread_num=2),
        engine_transport_config=SimpleNamespace(thread_num=10),
        engine_backend_config=SimpleNamespace(thread_num=4),
    )
    assert workers_of(engine) == {"frontend": 2, "transport": 10, "backend": 4}


def test_queue_sizes():
    """A queue has room for 100 items, or two a thread; queue_size says otherwise."""
    engine = create(
        Source,
        Middle,
        Sink,
        engine_transport_config=SimpleNamespace(thread_num=80),
        engine_backend_config=SimpleNamespace(queue_size=7),
    )
    assert [spec.queue_size for spec in engine.plan][1:] == [160, 7]
    assert [spec.queue_size for spec in create(Source, Middle, Sink).plan][1:] == [100, 100]


def test_app_config_is_the_config_of_every_stage():
    """app_config becomes self.config; the engine's and the context are there as they were."""
    seen = []
    config, engine_config, context = SimpleNamespace(), SimpleNamespace(), object()

    class Looks:
        def setup(self):
            seen.append((self.config, self._engine_config, self._runtime_context))

    class Front(Looks, Source):
        pass

    class Mid(Looks, Middle):
        pass

    class Back(Looks, Sink):
        pass

    engine = create(
        Front, Mid, Back, app_config=config, engine_config=engine_config, runtime_context=context
    )
    assert engine.config is config
    engine.start()
    assert seen == [(config, engine_config, context)] * 5


def test_the_options_of_the_engine_config(tmp_path):
    """What engine_config says of the whole run is in the plan; what it does not, is as ever."""
    options = {
        "stop_timeout": 7,
        "state": tmp_path / "state",
        "dead_letters": tmp_path / "letters.db",
        "checkpoint_interval": 0.5,
        "max_failures": 0.01,
    }
    for said in ({}, *({name: value} for name, value in options.items()), options):
        plan = create(Source, Middle, Sink, engine_config=SimpleNamespace(**said)).plan
        for name in options:
            assert getattr(plan, name) == said.get(name, getattr(Plan(()), name))


STAGE_OPTIONS = {
    "queue_size": 7,
    "queue_bytes": 1000,
    "sizeof": len,
    "ordering": "input",
    "on_error": Retry(3, then="skip"),
    "max_failures": 10,
    "timeout": 2.0,
    "concurrency": 5,
}


def test_the_options_of_a_stages_config():
    """What the configuration of a stage says is in its spec, and in no other stage's."""
    given = SimpleNamespace(thread_num=2, **STAGE_OPTIONS)
    _, middle, sink = create(Source, Middle, Sink, engine_transport_config=given).plan
    assert {name: getattr(middle, name) for name in STAGE_OPTIONS} == STAGE_OPTIONS
    assert middle.workers == 2
    assert (sink.on_error, sink.timeout, sink.queue_size) == ("fail", None, 100)


def test_options_of_stages_work(tmp_path):
    """With them a pipeline of three classes has batches, retries and dead letters."""

    class Odd(Transport):
        def transport(self, data):
            if data % 2:
                raise ValueError("odd")
            return data

    class Batches(Backend):
        def process_batch(self, items):
            Sink.kept += (tuple(items),)

    report = create(
        Source,
        Odd,
        Batches,
        engine_config=SimpleNamespace(dead_letters=tmp_path / "letters.jsonl"),
        engine_transport_config=SimpleNamespace(thread_num=1, on_error="dead_letter"),
        engine_backend_config=SimpleNamespace(batch=Batch(count=3, period=60)),
    ).start()
    assert Sink.kept == ((0, 2, 4),)
    assert (report.delivered, report.dead_lettered) == (3, 2)
    assert len((tmp_path / "letters.jsonl").read_text().splitlines()) == 2


def test_options_that_cannot_work_are_refused():
    """They are checked as those of a Pipeline are."""
    with pytest.raises(ConfigError, match=r"transport 'Middle': timeout is -1"):
        create(Source, Middle, Sink, engine_transport_config=SimpleNamespace(timeout=-1))


@pytest.mark.parametrize(
    "stages",
    [
        {"frontend_cls": None},
        {"frontend_cls": Source, "transport_cls": None, "backend_cls": None},
    ],
)
def test_too_few_stages(stages):
    """Without a frontend, or with a frontend alone, it is a ValueError."""
    with pytest.raises(ValueError, match="needs a frontend"):
        create(**stages)


class NoStage:
    pass


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ({"frontend_cls": Sink}, "no frontend"),
        ({"transport_cls": Source}, "no transport"),
        ({"backend_cls": Middle}, "no backend"),
        ({"frontend_cls": NoStage}, r"NoStage, which is no frontend: it has no produce\(\)"),
        ({"backend_cls": dict}, "dict, which is no backend"),
        ({"transport_cls": f"{__name__}:NoStage"}, "no transport"),
    ],
)
def test_a_class_of_the_wrong_kind_is_refused_at_once(stages, message):
    """It is an error of create(), not one that a thread logs."""
    with pytest.raises(ConfigError, match=message):
        create(**{"frontend_cls": Source, "transport_cls": Middle, "backend_cls": Sink, **stages})


def test_names_that_do_not_exist():
    """An unknown module, class or registered name is told, with what is near."""
    with pytest.raises(ConfigError, match="there is no module 'no_such_module'"):
        create(frontend_cls="no_such_module.Source")
    with pytest.raises(UnknownNameError, match=r"did you mean 'StdinFrontend'"):
        create(frontend_cls="m3.ootb.StdinFronted")
    with pytest.raises(LookupError, match=r"no frontend called 'stdim'.*did you mean 'stdin'"):
        create(frontend_cls="stdim")


@pytest.mark.parametrize("part", ["thread_cls", "driver_cls", "component_factory_cls"])
def test_parts_that_cannot_be_replaced_are_refused(part):
    """What os-m3-engine let a config replace and m3 has not is told, not ignored."""
    with pytest.raises(ConfigError, match=part):
        create(Source, Middle, Sink, engine_frontend_config=SimpleNamespace(**{part: object}))


def test_wrong_moments_are_runtime_errors():
    """A second start, and a stop before the start, are RuntimeErrors."""
    engine = create(Source, Middle, Sink)
    with pytest.raises(RuntimeError, match="not started"):
        engine.stop()
    engine.start()
    assert engine.stopped()
    with pytest.raises(RuntimeError, match="runs once"):
        engine.start()


def test_a_failing_stage_is_raised_from_start():
    """What was logged by the ancestor, and then forgotten, comes out of start()."""

    class Bad(Transport):
        def transport(self, data):
            raise ZeroDivisionError

    one = SimpleNamespace(thread_num=1)  # several may fail at once, and come out as a group
    with pytest.raises(StageError) as caught:
        create(Source, Bad, Sink, engine_transport_config=one).start()
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_two_frontends_both_end():
    """The first of several frontend threads to end does not cut the others short."""

    class Source300(Frontend):
        def produce(self):
            yield from range(300)

    engine = create(Source300, None, Sink, engine_frontend_config=SimpleNamespace(thread_num=2))
    assert engine.start().delivered == 600
