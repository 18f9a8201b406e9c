"""The graph of a conductor as text, for Graphviz and for Mermaid."""

import re
import threading

import pytest

from m3 import Conductor
from m3.components import ComponentError


@pytest.fixture
def conductor(journal):
    """Return a conductor with a diamond on a plain object, and one component alone."""
    a = journal.component("a")
    b, c = journal.component("b", a=a), journal.component("c", a=a)
    conductor = Conductor()
    conductor.add("text", name='a "name"')
    conductor.add(journal.component("d", b=b, c=c))
    return conductor


def without_times(text):
    return re.sub(r"in \d+\.\d{3} s", "in ... s", text)


def test_text(conductor):
    """A line for each resource below whoever needs it, with its state and how long it took."""
    assert conductor.graph().text() == (
        "d  waiting\n"
        "    b  waiting\n"
        "        a  waiting\n"
        "    c  waiting\n"
        "        a  waiting\n"
        'a "name"  waiting'
    )
    with conductor:
        assert without_times(conductor.graph().text()).splitlines() == [
            "d  started in ... s",
            "    b  started in ... s",
            "        a  started in ... s",
            "    c  started in ... s",
            "        a  started in ... s",
            'a "name"  started',
        ]
    assert conductor.graph().text().startswith("d  stopped")


def test_text_shows_what_is_below_once(journal):
    """A part of the graph that several need is shown in full at the first."""
    a = journal.component("a")
    b = journal.component("b", a=a)
    conductor = Conductor()
    conductor.add(journal.component("e", c=journal.component("c", b=b), d=b))
    assert conductor.graph().text().splitlines() == [
        "e  waiting",
        "    c  waiting",
        "        b  waiting",
        "            a  waiting",
        "    b  waiting  (see above)",
    ]


def test_dot(conductor):
    """Names and labels are quoted; an arrow leads to what is needed."""
    with conductor:
        lines = without_times(conductor.graph().dot()).splitlines()
    assert lines[0] == "digraph components {"
    assert '    "a" [label="a\\nstarted in ... s", fillcolor="#a1d99b"];' in lines
    assert '    "a \\"name\\"" [label="a \\"name\\"\\nstarted", fillcolor="#a1d99b"];' in lines
    assert lines[-5:] == [
        '    "b" -> "a";',
        '    "c" -> "a";',
        '    "d" -> "b";',
        '    "d" -> "c";',
        "}",
    ]


def test_mermaid(conductor):
    """Every node has a key, a quoted label, and the class of its state."""
    lines = conductor.graph().mermaid().splitlines()
    assert lines[0] == "graph TD"
    assert '    c0["a<br>waiting"]:::waiting' in lines
    assert '    c4["a #quot;name#quot;<br>waiting"]:::waiting' in lines
    assert lines[-5:] == [
        "    c1 --> c0",
        "    c2 --> c0",
        "    c3 --> c1",
        "    c3 --> c2",
        "    classDef waiting fill:#d9d9d9",
    ]


def test_states_on_the_way(journal):
    """A graph can be asked for at any time, in any thread, also by a component."""
    seen = []

    class B(journal.component("b")):
        a: journal.component("a")

        def setup(self):
            seen.append([node.state for node in conductor.graph().nodes])

        def shutdown(self):
            seen.append([node.state for node in conductor.graph().nodes])

    class C(journal.component("c", b=B)):
        def setup(self):
            raise ValueError

    conductor = Conductor()
    conductor.add(C)
    with pytest.raises(ComponentError):
        conductor.setup()
    seen.append([node.state for node in conductor.graph().nodes])
    assert seen == [
        ["started", "starting", "waiting"],
        ["started", "stopping", "failed"],
        ["stopped", "stopped", "failed"],
    ]


def test_names_are_unique(journal):
    """Classes of one name are told apart."""
    conductor = Conductor()
    for _ in range(3):
        conductor.add(journal.component("a"))
    conductor.add(journal.component("b"), name="a")
    names = [node.name for node in conductor.graph().nodes]
    module = journal.component("a").__module__
    assert names == [f"{module}.a", f"{module}.a-2", f"{module}.a-3", "a"]


def test_threads_are_named(journal):
    """The thread of a plain method says of which component it is."""
    names = []

    class A(journal.component("a")):
        def setup(self):
            names.append(threading.current_thread().name)

        def shutdown(self):
            names.append(threading.current_thread().name)

    conductor = Conductor()
    conductor.add(A)
    with conductor:
        pass
    assert names == ["m3-A-setup", "m3-A-shutdown"]
