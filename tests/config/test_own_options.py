"""A stage's own options against what its class takes."""

import json

import pytest

from m3.config.own_options import own_options, own_value, wrong_options
from m3.config.values import expand
from m3.stages import Transport


class Clean(Transport):
    """
    Clean items.

    Args:
        path: of the rules.
        depth: how far to look.
    """

    def __init__(self, path: str, *, depth: int = 3, ratio: float | None = None, workers=1):
        pass

    def transport(self, data):
        return data


class Anything(Transport):
    def __init__(self, **options):
        pass

    def transport(self, data):
        return data


def wrong(target, **given):
    """Return what is wrong with the options, as a dictionary."""
    return dict(wrong_options(target, "transport", given))


def test_options_of_a_class():
    """A class has the options of its constructor, without those that are the engine's."""
    names = [option.name for option in own_options(Clean, "transport")]
    assert names == ["path", "depth", "ratio"]


@pytest.mark.parametrize("target", [json.loads, str, Clean("x")])
def test_only_stage_classes_have_options(target):
    """A function, a class that is called as one, and an instance have the engine's options only."""
    assert own_options(target, "transport") == ()
    assert "there is no such option" in wrong(target, depht=3)["depht"]


def test_right_options():
    """What the constructor takes is right."""
    assert wrong(Clean, path="x", depth=2, ratio=1) == {}
    assert wrong(Anything, what="ever") == {}


@pytest.mark.parametrize(
    ("given", "key", "complaint"),
    [
        ({"path": "x", "depht": 2}, "depht", "did you mean 'depth'"),
        ({"path": "x", "woerkers": 2}, "woerkers", "did you mean 'workers'"),
        ({}, "path", "must be given (of the rules.)"),
        ({"path": 3}, "path", "must be str, not 3"),
        ({"path": "x", "depth": "deep"}, "depth", "must be int, not 'deep'"),
        ({"path": "x", "depth": True}, "depth", "must be int, not True"),
        ({"path": "x", "ratio": "half"}, "ratio", "must be float | None, not 'half'"),
    ],
)
def test_wrong_options(given, key, complaint):
    """Unknown, missing and mistyped options are named, with the reason."""
    assert complaint in wrong(Clean, **given)[key]


def test_variables_take_the_type_of_the_option():
    """``${VAR}`` is a number for an option that is one, and a string for one that is that."""
    options = {option.name: option for option in own_options(Clean, "transport")}
    value = expand("${N}", {"N": "4"})
    assert own_value(value, options["depth"]) == 4
    assert own_value(value, options["path"]) == "4"
    assert wrong(Clean, path=value, depth=value) == {}
    assert "must be int" in wrong(Clean, path="x", depth=expand("${N}", {"N": "x"}))["depth"]
