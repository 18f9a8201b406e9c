"""A whole configuration: read, checked, turned into a plan."""

import json
import sys

import pytest

from m3.config import Flags, Origin, read
from m3.errors import ConfigError
from m3.policies import Backoff, Batch, Retry

STAGES = """
from m3.stages import Backend, Frontend, Transport

class Numbers(Frontend):
    workers = 2
    def __init__(self, *, stop: int = 3): self.last = stop
    def produce(self): yield from range(self.last)

class Store(Backend):
    def __init__(self, *, path: str, secret: str = ""): self.path = path
    def process_batch(self, items): pass

def forgive(error): return "skip"

not_callable = 3
"""

FILE = """\
name = "clean"
stop_timeout = 5

[frontend]
use = "stages_of_test:Numbers"
stop = 10

[[transport]]
use = "json.loads"
workers = 4
on_error = "stages_of_test:forgive"

[[transport]]
use = "json.loads"

[[backend]]
use = "stages_of_test.Store"
path = "${HOME}/out"
secret = "${SECRET}"
batch = { count = 500, period = 0.5 }
"""

WRONG = """\
nmae = "clean"

[frontend]
use = "stages_of_test:Numbers"
stopp = 10

[[transport]]
use = "json.lods"
workers = "many"

[[transport]]
use = "stages_of_test:not_callable"

[[backend]]
use = "stages_of_test.Store"
on_error = "stages_of_test:forgiv"

[[backend]]
use = "nul"
path = "${NOPE}"
"""


@pytest.fixture
def written(tmp_path, monkeypatch):
    """Write a module of stages and a file that uses it; return the path of the file."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "stages_of_test", raising=False)
    (tmp_path / "stages_of_test.py").write_text(STAGES)

    def write(text):
        path = tmp_path / "pipeline.toml"
        path.write_text(text)
        return path

    return write


ENVIRON = {"HOME": "/home/x", "SECRET": "hunter2"}


def test_plan(written):
    """A file becomes the plan that the same description in Python makes."""
    plan = read(written(FILE), Flags(), ENVIRON).plan()
    assert (plan.name, plan.stop_timeout) == ("clean", 5.0)
    assert [spec.name for spec in plan] == [
        "stages_of_test:Numbers",
        "json.loads",
        "json.loads-2",
        "stages_of_test.Store",
    ]
    numbers, loads, _, store = plan
    assert (numbers.workers, numbers.options) == (2, {"stop": 10})
    assert (loads.workers, loads.on_error.__name__) == (4, "forgive")
    assert (store.batch, store.options["path"]) == (Batch(500, period=0.5), "/home/x/out")
    assert type(store.options["path"]) is str


def test_flags_cover_the_file(written):
    """The precedence is flags, environment, file, defaults."""
    flags = Flags(workers=8, set=("transport.2.workers=16", "backend.path=other"))
    environ = ENVIRON | {"M3_WORKERS": "3", "M3_STOP_TIMEOUT": "1", "M3_NAME": "named"}
    plan = read(written(FILE), flags, environ).plan()
    assert [spec.workers for spec in plan.transports] == [8, 16]
    assert plan.backends[0].options["path"] == "other"
    assert (plan.name, plan.stop_timeout) == ("named", 1.0)


def test_every_mistake_at_once(written):
    """All mistakes are found together, each with its line, in the order of the lines."""
    path = written(WRONG)
    plan, problems = read(path, Flags(), {}).checked()
    assert plan is None
    found = [(problem.origin.line, problem.key) for problem in problems]
    assert found == [
        (1, "nmae"),
        (5, "frontend.1.stopp"),
        (8, "transport.1.use"),
        (9, "transport.1.workers"),
        (12, "transport.2.use"),
        (14, "backend.1.path"),
        (16, "backend.1.on_error"),
        (19, "backend.2.use"),
        (20, "backend.2.path"),
    ]
    with pytest.raises(ConfigError) as caught:
        read(path, Flags(), {}).plan()
    assert str(caught.value).splitlines() == [str(problem) for problem in problems]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('[[transport]]\nuse = "stages_of_test:not_callable"', "use: 3 is no transport"),
        ('[[transport]]\nuse = "json.loads"\nbatch = 3', "batch: batch needs a stage with"),
        ('[[transport]]\nuse = "stages_of_test:Numbers"', "use: Numbers is a frontend"),
        ('[[transport]]\nuse = "math.pi"\nname = "pi"', "use: 3.14"),
        ('[[backend]]\nuse = "null"\nname = "stages_of_test:Numbers"', "two stages are called"),
    ],
)
def test_mistakes_that_the_engine_finds(written, text, complaint):
    """What cannot run is found without running, at the key that says it."""
    path = written(f'[frontend]\nuse = "stages_of_test:Numbers"\n{text}\n')
    _, (problem,) = read(path, Flags(), {}).checked()
    assert complaint in str(problem)
    assert problem.origin.line >= 3


def test_a_module_that_raises(written, tmp_path):
    """A module that raises while it is imported is a mistake that says where."""
    (tmp_path / "raising.py").write_text("import json\n\nx = 1 / 0\n")
    path = written('frontend = { use = "raising:x" }\n')
    _, (problem,) = read(path, Flags(), {}).checked()
    assert "ZeroDivisionError: division by zero" in problem.message
    assert problem.message.endswith(f"({tmp_path / 'raising.py'}:3)")


@pytest.mark.parametrize("use", ["nowhere:x", "json:nothing", "stdon"])
def test_a_name_that_is_not_there(written, use):
    """A name that leads nowhere is no place in anybody's code."""
    _, (problem,) = read(written(f'frontend = {{ use = "{use}" }}\n'), Flags(), {}).checked()
    assert ".py:" not in problem.message


def test_no_frontend():
    """A pipeline without frontend is told how to get one."""
    with pytest.raises(ConfigError, match="frontend: there is none; give --frontend NAME"):
        read(None, Flags(), {}).plan()


def test_app_dir_is_known_in_spite_of_mistakes(written):
    """Where to import from is known while everything else is still being checked."""
    path = written('app_dir = "src"\nx = 1')
    assert read(path, Flags(), {}).app_dir == str(path.parent / "src")


def test_effective_options(written):
    """Each option is known with its value and with where that was given; secrets are not shown."""
    path = written(FILE)
    configuration = read(path, Flags(workers=8), ENVIRON | {"M3_NAME": "named"})
    plan = configuration.plan()
    whole = {name: (value, origin) for name, value, origin in configuration.pipeline_options()}
    assert whole["name"] == ('"named"', Origin("environment", "M3_NAME"))
    assert whole["workers"] == ("8", Origin("flag", "--workers"))
    assert str(whole["stop_timeout"][1]) == f"{path}:2"
    assert str(whole["log_format"][1]) == "default"
    stages = {
        spec.name: {name: (value, str(origin)) for name, value, origin in options}
        for spec, _, options in configuration.stage_options(plan)
    }
    assert stages["stages_of_test:Numbers"]["stop"] == ("10", f"{path}:6")
    assert stages["stages_of_test:Numbers"]["workers"] == ("2", "default")
    assert stages["json.loads"]["workers"] == ("8", "--workers")
    assert stages["stages_of_test.Store"]["secret"] == ('"${SECRET}"', f"{path}:19")
    assert "hunter2" not in str(stages)


RETRYING = """\
state = "st"
checkpoint_interval = 5

[frontend]
use = "stages_of_test:Numbers"

[[transport]]
use = "json.loads"
timeout = 30
queue_bytes = 64_000_000
sizeof = "sys.getsizeof"

[transport.on_error]
attempts = 5
then = "dead_letter"
on = ["TimeoutError", "json:JSONDecodeError"]
backoff = { initial = 0.5, maximum = 10, factor = 3, jitter = false, max_elapsed = 60 }
"""


def test_policies(written):
    """What a file says of retries, timeouts and sizes is what the engine is told."""
    flags = Flags(
        dead_letters="d.jsonl",
        set=("transport.on_error.attempts=7", "transport.1.on_error.backoff.maximum=20"),
    )
    plan = read(written(RETRYING), flags, {"M3_CHECKPOINT_INTERVAL": "2"}).plan()
    (spec,) = plan.transports
    assert spec.on_error == Retry(
        attempts=7,
        backoff=Backoff(initial=0.5, maximum=20.0, factor=3.0, jitter=False, max_elapsed=60.0),
        then="dead_letter",
        on=(TimeoutError, json.JSONDecodeError),
    )
    assert (spec.timeout, spec.queue_bytes, spec.sizeof) == (30.0, 64_000_000, sys.getsizeof)
    assert (plan.state, plan.dead_letters, plan.checkpoint_interval) == ("st", "d.jsonl", 2.0)


GUARDED = """\
state = "st"
crash_guard = 3
frontend = { use = "file", path = "in" }
"""


@pytest.mark.parametrize(
    ("flags", "environment", "count"),
    [
        (Flags(), {}, 3),
        (Flags(), {"M3_CRASH_GUARD": "5"}, 5),
        (Flags(crash_guard=7), {"M3_CRASH_GUARD": "5"}, 7),
        (Flags(set=("crash_guard=9",)), {}, 9),
    ],
)
def test_crash_guard(written, flags, environment, count):
    """It is given like the options beside it."""
    assert read(written(GUARDED), flags, environment).plan().crash_guard == count


def test_crash_guard_is_a_number(written):
    """What is none is a mistake at its key."""
    _, (problem,) = read(written(GUARDED), Flags(set=("crash_guard=0",)), {}).checked()
    assert "crash_guard: must be at least 1, not 0" in str(problem)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('crash_guard = 3\nfrontend = { use = "file", path = "in" }', "give state=DIR"),
        (
            'crash_guard = 3\nstate = "st"\n[frontend]\nuse = "stdin"',
            "frontend.1.use: with crash_guard, a run has to go on where the one before has died",
        ),
    ],
)
def test_crash_guard_that_cannot_work(written, text, complaint):
    """It needs state, and a frontend that goes on; the mistake is told where it is."""
    _, (problem,) = read(written(text), Flags(), {}).checked()
    assert complaint in str(problem)


def test_a_verdict_may_be_a_function(written):
    """``then`` may name a function, which is imported."""
    flags = Flags(set=("transport.on_error={then='stages_of_test:forgive'}",))
    (spec,) = read(written(RETRYING), flags, {}).plan().transports
    assert (spec.on_error.then.__name__, spec.on_error.attempts) == ("forgive", 3)


@pytest.mark.parametrize(
    ("said", "complaint"),
    [
        ("on_error.then=stages_of_test:forgiv", "on_error.then: 'stages_of_test' has no 'forgiv'"),
        ("on_error.then=stages_of_test:not_callable", "Retry(then=3)"),
        ("on_error.on=['TimoutError']", "on_error.on.1: 'builtins' has no 'TimoutError'; did you"),
        ("on_error.on=['json.loads']", "on_error.on.1: json.loads is no exception"),
        ("sizeof=nowhere:size", "sizeof: there is no module 'nowhere'"),
        ("sizeof=len", "sizeof: sizeof is 'len'; it is a callable"),
        ("sizeof=stages_of_test:not_callable", "sizeof: sizeof is 3; it is a callable"),
        ("workers=0", "needs a worker of its own"),
    ],
)
def test_policies_that_cannot_work(written, said, complaint):
    """What a policy names is imported and checked before anything runs."""
    flags = Flags(set=(f"transport.{said}",))
    _, (problem,) = read(written(RETRYING), flags, {}).checked()
    assert complaint in str(problem)


def test_dead_letters_need_a_place(written):
    """The policy alone is a mistake at its key."""
    path = written('[frontend]\nuse = "stages_of_test:Numbers"\non_error = "dead_letter"\n')
    _, (problem,) = read(path, Flags(), {}).checked()
    assert str(problem).startswith(f"{path}:3: frontend.1.on_error: on_error is 'dead_letter', and")


def test_effective_policies(written):
    """Each key of a table is shown with where it was given."""
    path = written(RETRYING)
    flags = Flags(set=("transport.on_error.attempts=7",))
    configuration = read(path, flags, {"M3_STATE": "elsewhere"})
    *_, (_, _, options), _ = configuration.stage_options(configuration.plan())
    said = {name: (value, str(origin)) for name, value, origin in options}
    assert said["timeout"] == ("30", f"{path}:9")
    assert said["on_error.attempts"] == ("7", "--set transport.on_error.attempts")
    assert said["on_error.then"][0] == '"dead_letter"'
    assert said["on_error.backoff.factor"][0] == "3"
    whole = {name: str(origin) for name, _, origin in configuration.pipeline_options()}
    assert (whole["state"], whole["checkpoint_interval"]) == ("M3_STATE", f"{path}:2")
    assert "dead_letters" not in whole
