"""What a configuration may say."""

from types import SimpleNamespace

import pytest

from m3.config.merging import Layer, Setting, merge
from m3.config.origins import Origin
from m3.config.schema import RetryConfig, structured
from m3.config.sources import Flags, from_flags
from m3.config.values import expand
from m3.policies import Backoff, Batch, Retry

FRONTEND = from_flags(Flags(frontend=("stdin",)))


def read(*assignments, **settings):
    """Return the configuration that options and ``--set`` make, and what is wrong with it."""
    origin = Origin("flag", "here")
    layer = Layer(settings={name: Setting(value, origin) for name, value in settings.items()})
    merged = merge([FRONTEND, layer, from_flags(Flags(set=assignments))])
    return structured(merged), list(merged.problems)


def message(*assignments, **settings):
    """Return the one thing that is wrong."""
    config, (problem,) = read(*assignments, **settings)
    assert config is None
    return str(problem)


def test_options_are_typed():
    """Values arrive in attrs classes, with the types that the engine takes."""
    config, problems = read(
        "frontend.on_error=skip",
        "backend.batch={count = 5, period = 1}",
        "backend.path=x",
        stop_timeout=3,
    )
    assert problems == []
    assert config.stop_timeout == 3.0
    assert config.frontend[0].on_error == "skip"
    assert config.backend[0].batch == Batch(count=5, period=1.0)
    assert config.backend[0].options == {"path": "x"}
    assert config.frontend[0].workers is None


def test_batch_may_be_a_number():
    """``batch = 5`` is a batch of five items."""
    config, _ = read("backend.batch=5")
    assert config.backend[0].batch == Batch(count=5)


def test_retries():
    """The table ``on_error`` has the defaults of m3.Retry and m3.Backoff."""
    config, problems = read(
        "frontend.on_error.attempts=5",
        "backend.on_error={then = 'pkg:decide', backoff = {initial = 1, jitter = false}}",
    )
    assert problems == []
    assert config.frontend[0].on_error == RetryConfig(attempts=5)
    backoff = Backoff(initial=1.0, jitter=False)
    assert config.backend[0].on_error == RetryConfig(then="pkg:decide", backoff=backoff)
    assert RetryConfig().attempts == Retry().attempts


def test_mistakes_do_not_show_variables():
    """What a variable holds is not in the message: it may be a secret."""
    value = expand("${KEY}", {"KEY": "hunter2"})
    for name in ("workers", "stop_timeout", "progress", "log_format"):
        assert "not '${KEY}'" in message(**{name: value})


def test_config_is_a_namespace():
    """The table ``config`` becomes what stages know as ``self.config``."""
    config, _ = read("backend.config={path = 'x', inner = {depth = 2}}")
    assert config.backend[0].config == SimpleNamespace(path="x", inner=SimpleNamespace(depth=2))


def test_variables_have_no_type():
    """A variable may stand where a number is wanted."""
    config, problems = read(workers=expand("${N}", {"N": "4"}), progress=expand("${P:true}", {}))
    assert problems == []
    assert (config.workers, config.progress) == (4, True)


@pytest.mark.parametrize(
    ("assignment", "complaint"),
    [
        ("backend.workers=many", "must be a whole number, not 'many'"),
        ("backend.workers=true", "must be a whole number, not True"),
        ("backend.workers=1.5", "must be a whole number, not 1.5"),
        ("backend.workers=-1", "must be at least 0, not -1"),
        ("backend.queue_size=0", "must be at least 1, not 0"),
        ("backend.concurrency=0", "must be at least 1, not 0"),
        ("backend.ordering=random", "must be 'completion' or 'input', not 'random'"),
        ("backend.name=3", "must be a string, not 3"),
        ("backend.batch=many", "must be a whole number, not 'many'"),
        ("backend.batch={cuont=3}", "backend.1.batch.cuont: there is no such option; did you mean"),
        ("backend.batch={period=-1}", "backend.1.batch.period: must be at least 0"),
        ("backend.queue_bytes=64MB", "must be a whole number, not '64MB'"),
        ("backend.queue_bytes=0", "must be at least 1, not 0"),
        ("backend.timeout=0", "must be more than 0, not 0"),
        ("backend.timeout=nan", "must be more than 0, not nan"),
        ("backend.sizeof=3", "must be a string, not 3"),
        ("backend.on_error=retry", "must be 'fail', 'skip', 'dead_letter', or the path of a"),
        ("backend.on_error=3", "or a table of attempts, backoff, then, on, not 3"),
        ("backend.on_error.attempts=0", "backend.1.on_error.attempts: must be at least 1"),
        ("backend.on_error.atempts=2", "no such option; did you mean 'attempts'"),
        ("backend.on_error.then=retry", "backend.1.on_error.then: must be 'fail', 'skip'"),
        ("backend.on_error.then=[]", "backend.1.on_error.then: must be 'fail', 'skip'"),
        (
            "backend.on_error.on=OSError",
            "backend.1.on_error.on: must be a list of exceptions, as ['OSError'], not 'OSError'",
        ),
        ("backend.on_error.on=['OSError', 3]", "backend.1.on_error.on.2: must be a string, not 3"),
        ("backend.on_error.backoff=3", "must be a table of times, as { initial = 0.1 }, not 3"),
        ("backend.on_error.backoff.factor=0.5", "on_error.backoff.factor: must be at least 1"),
        ("backend.on_error.backoff.initial=-1", "on_error.backoff.initial: must be at least 0"),
        ("backend.on_error.backoff.jitter=1", "on_error.backoff.jitter: must be true or false"),
        ("backend.max_failures=-1", "must be a number of items, at least 0, or a fraction of them"),
        ("backend.max_failures=nan", "or a fraction of them between 0 and 1, not nan"),
        ("backend.max_failures=true", "or a fraction of them between 0 and 1, not True"),
        ("max_failures=0.0", "or a fraction of them between 0 and 1, not 0.0"),
        ("max_failures=1.5", "or a fraction of them between 0 and 1, not 1.5"),
        ("checkpoint_interval=0", "must be more than 0, not 0"),
        ("state=3", "must be a string, not 3"),
        ("backend.config=3", "must be a table, not 3"),
        ("stop_timeout=-1", "must be at least 0"),
        ("stop_timeout=nan", "must be at least 0"),
        ("stop_timeout=soon", "must be a number of seconds, not 'soon'"),
        ("log_format=xml", "must be 'text' or 'json', not 'xml'"),
        ("progress=1", "must be true or false, not 1"),
        ("worker=3", "worker: there is no such option; did you mean 'workers'"),
    ],
)
def test_mistakes(assignment, complaint):
    """Types are exact, numbers bounded, and unknown keys refused with the nearest name."""
    assert complaint in message(assignment)


def test_every_mistake_at_once():
    """One mistake does not hide another, and one mistake is one message."""
    _, problems = read("backend.batch={count=0, x=1}", "nam=e", workers="many")
    assert sorted(problem.key for problem in problems) == [
        "backend.1.batch.count",
        "backend.1.batch.x",
        "nam",
        "workers",
    ]


def test_a_stage_needs_a_use():
    """A stage that does not say what it is, is a mistake of the stage."""
    merged = merge([FRONTEND, Layer(stages={"transport": [Origin("file", "f:3", 3)]})])
    assert structured(merged) is None
    assert [str(problem) for problem in merged.problems] == [
        "f:3: transport.1: the key 'use' is missing"
    ]
