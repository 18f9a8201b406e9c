"""The precedence of flags, environment and file."""

from m3.config.merging import Assignment, Layer, Setting, merge
from m3.config.origins import DEFAULT, Origin

FILE = Origin("file", "pipeline.toml:1", 1)
ENVIRONMENT = Origin("environment", "M3_WORKERS")
FLAG = Origin("flag", "--workers")


def layer(origin, *, stages=None, **settings):
    """Return a layer with options of the pipeline, and stages as their options by kind."""
    made = Layer(settings={name: Setting(value, origin) for name, value in settings.items()})
    for kind, tables in (stages or {}).items():
        made.stages[kind] = [origin] * len(tables)
        for number, table in enumerate(tables, 1):
            for name, value in table.items():
                made.assignments.append(Assignment(kind, number, name, Setting(value, origin)))
    return made


def assigned(origin, kind, number, option, value):
    """Return a layer with one assignment."""
    return Layer(assignments=[Assignment(kind, number, option, Setting(value, origin))])


def test_stronger_layers_cover_weaker():
    """Of several layers that set an option, the last given wins, and is known as its origin."""
    merged = merge([layer(FILE, stop_timeout=1), layer(FLAG, stop_timeout=2)])
    assert merged.values["stop_timeout"] == 2
    assert merged.exact_origin(("stop_timeout",)) == FLAG


def test_pipeline_option_is_default_of_its_own_layer():
    """In a file, ``workers`` at the top is for the transports that say nothing themselves."""
    merged = merge([layer(FILE, workers=4, stages={"transport": [{"use": "a"}, {"workers": 1}]})])
    assert [stage["workers"] for stage in merged.values["transport"]] == [4, 1]


def test_pipeline_option_covers_weaker_layers():
    """``--workers`` is for every transport, whatever the file says of one."""
    weaker = layer(FILE, stages={"transport": [{"workers": 1}], "frontend": [{}]})
    merged = merge([weaker, layer(ENVIRONMENT, workers=3), layer(FLAG, workers=4)])
    assert merged.values["transport"] == [{"workers": 4}]
    assert "workers" not in merged.values["frontend"][0]


def test_set_beats_workers():
    """``--set`` of one stage wins over ``--workers`` of the same command line."""
    flags = layer(FLAG, workers=4)
    flags.assignments.append(Assignment("transport", 1, "workers", Setting(16, FLAG)))
    merged = merge([layer(FILE, stages={"transport": [{}, {}]}), flags])
    assert [stage["workers"] for stage in merged.values["transport"]] == [16, 4]


def test_environment_reaches_stages_of_flags():
    """``M3_WORKERS`` holds for transports that the flags name."""
    merged = merge([layer(ENVIRONMENT, workers=3), layer(FLAG, stages={"transport": [{}]})])
    assert merged.values["transport"][0]["workers"] == 3


def test_stages_of_flags_replace_those_of_the_file():
    """The stages of a kind come from one source, options and all; other kinds stay."""
    weaker = layer(FILE, stages={"transport": [{"use": "a", "x": 1}], "frontend": [{"use": "f"}]})
    merged = merge([weaker, layer(FLAG, stages={"transport": [{"use": "b"}]})])
    assert merged.values["transport"] == [{"use": "b"}]
    assert merged.values["frontend"] == [{"use": "f"}]


def test_default_backend():
    """Without a backend, items go to stdout."""
    merged = merge([Layer()])
    assert merged.values["backend"] == [{"use": "stdout"}]
    assert merged.origin(("backend", 0, "use")) == DEFAULT


def test_stage_without_number():
    """A kind alone means its only stage, and is a mistake if there are several, or none."""
    one = layer(FILE, stages={"transport": [{}]})
    merged = merge([one, assigned(FLAG, "transport", None, "workers", 2)])
    assert merged.values["transport"] == [{"workers": 2}]
    several = layer(FILE, stages={"transport": [{}, {}]})
    (problem,) = merge([several, assigned(FLAG, "transport", None, "workers", 2)]).problems
    assert "say which one: transport.1.workers to transport.2.workers" in problem.message
    (problem,) = merge([assigned(FLAG, "transport", None, "workers", 2)]).problems
    assert "there is no transport.1; there are 0" in problem.message


def test_stage_that_is_not_there():
    """Stages are counted from 1 to their number."""
    one = layer(FILE, stages={"transport": [{}]})
    for number in (0, 2):
        merged = merge([one, assigned(FLAG, "transport", number, "workers", 2)])
        assert [problem.key for problem in merged.problems] == [f"transport.{number}.workers"]


def test_origin_of_what_is_inside():
    """What is inside a value comes from where the value comes from."""
    merged = merge([layer(FILE, stages={"transport": [{"batch": {"count": 3}}]})])
    assert merged.origin(("transport", 0, "batch", "count")) == FILE
    assert merged.exact_origin(("transport", 0, "batch", "count")) == DEFAULT


RETRY = {"attempts": 3, "backoff": {"initial": 1}}


def inside(kind, number, keys, value, origin=FLAG):
    """Return a layer with one assignment to what is inside an option."""
    option, *inner = keys.split(".")
    setting = Setting(value, origin)
    return Layer(assignments=[Assignment(kind, number, option, setting, tuple(inner))])


def test_assignments_reach_into_tables():
    """A key of a table is set without touching the others, and has its own origin."""
    weaker = layer(FILE, stages={"transport": [{"on_error": RETRY}]})
    merged = merge([weaker, inside("transport", None, "on_error.backoff.factor", 3)])
    assert merged.values["transport"][0]["on_error"] == {
        "attempts": 3,
        "backoff": {"initial": 1, "factor": 3},
    }
    path = ("transport", 0, "on_error", "backoff")
    assert merged.origin((*path, "factor")) == FLAG
    assert merged.origin((*path, "initial")) == FILE
    assert RETRY["backoff"] == {"initial": 1}


def test_assignments_make_the_tables_that_they_need():
    """A key of a table may be all that is said of it."""
    merged = merge([layer(FILE, stages={"backend": [{}]}), inside("backend", 1, "batch.count", 5)])
    assert merged.values["backend"] == [{"batch": {"count": 5}}]


def test_a_whole_table_covers_its_keys():
    """A stronger layer that gives the whole table takes the place of weaker keys."""
    weaker = layer(FILE, stages={"backend": [{}]})
    key = inside("backend", 1, "batch.count", 5, ENVIRONMENT)
    merged = merge([weaker, key, assigned(FLAG, "backend", 1, "batch", {"count": 6})])
    assert merged.values["backend"] == [{"batch": {"count": 6}}]
    assert merged.origin(("backend", 0, "batch", "count")) == FLAG


def test_assignments_into_what_is_no_table():
    """What is no table has no keys, and keeps what it says."""
    weaker = layer(FILE, stages={"transport": [{"on_error": "skip"}]})
    merged = merge([weaker, inside("transport", 1, "on_error.backoff.initial", 5)])
    (problem,) = merged.problems
    assert str(problem) == (
        "--workers: transport.1.on_error.backoff.initial: on_error (pipeline.toml:1) is no "
        "table; give it as one, in braces"
    )
    assert merged.values["transport"] == [{"on_error": "skip"}]
