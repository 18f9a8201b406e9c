"""The graph of a conductor, as it is at one moment, and drawn."""

import json
from dataclasses import dataclass

from m3.components.graph import Node, State

__all__ = ("Graph", "GraphNode", "snapshot")

COLOURS = {
    "waiting": "#d9d9d9",
    "starting": "#9ecae1",
    "started": "#a1d99b",
    "failed": "#fc9272",
    "stopping": "#9ecae1",
    "stopped": "#d9d9d9",
}


@dataclass(frozen=True, slots=True)
class GraphNode:
    """
    A resource in a graph.

    Attributes:
        name: one of its own in the graph.
        state: what it is about.
        seconds: how long its last setup took; None before.
        needs: the names of what it depends on.
    """

    name: str
    state: State
    seconds: float | None
    needs: tuple[str, ...]

    def label(self, separator: str) -> str:
        """Return its name, state and time."""
        time = "" if self.seconds is None else f" in {self.seconds:.3f} s"
        return f"{self.name}{separator}{self.state}{time}"


@dataclass(frozen=True, slots=True)
class Graph:
    """
    Resources and who needs whom, at one moment.

    Attributes:
        nodes: each after those that it needs.
    """

    nodes: tuple[GraphNode, ...]

    def text(self, *, states: bool = True) -> str:
        """Return a line for each resource, below whoever needs it; with its state, if wanted."""
        by_name = {node.name: node for node in self.nodes}
        needed = {name for node in self.nodes for name in node.needs}
        lines: list[str] = []
        shown: set[str] = set()
        waiting = [(node.name, 0) for node in self.nodes[::-1] if node.name not in needed]
        while waiting:
            name, depth = waiting.pop()
            node = by_name[name]
            is_shown_above = name in shown and bool(node.needs)
            above = "  (see above)" if is_shown_above else ""
            lines.append("    " * depth + (node.label("  ") if states else name) + above)
            shown.add(name)
            if not is_shown_above:
                waiting += ((need, depth + 1) for need in node.needs[::-1])
        return "\n".join(lines)

    def dot(self) -> str:
        """Return it in the language of Graphviz; an arrow leads to what is needed."""
        lines = ["digraph components {", "    node [shape=box, style=filled];"]
        for node in self.nodes:
            label, colour = json.dumps(node.label("\n")), COLOURS[node.state]
            lines.append(f'    {json.dumps(node.name)} [label={label}, fillcolor="{colour}"];')
        for node in self.nodes:
            lines += (f"    {json.dumps(node.name)} -> {json.dumps(need)};" for need in node.needs)
        return "\n".join([*lines, "}"])

    def mermaid(self) -> str:
        """Return it in the language of Mermaid; an arrow leads to what is needed."""
        keys = {node.name: f"c{number}" for number, node in enumerate(self.nodes)}
        lines = ["graph TD"]
        for node in self.nodes:
            label = node.label("<br>").replace('"', "#quot;")
            lines.append(f'    {keys[node.name]}["{label}"]:::{node.state}')
        for node in self.nodes:
            lines += (f"    {keys[node.name]} --> {keys[need]}" for need in node.needs)
        states = sorted({node.state for node in self.nodes})
        lines += (f"    classDef {state} fill:{COLOURS[state]}" for state in states)
        return "\n".join(lines)


def snapshot(nodes: list[Node]) -> Graph:
    """Return what *nodes* are about now."""
    return Graph(
        tuple(
            GraphNode(node.name, node.state, node.seconds, tuple(need.name for need in node.needs))
            for node in nodes
        )
    )
