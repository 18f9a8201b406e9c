"""
How often the process has died at the same mark, and over which items.

A :class:`CrashRecord` is kept in the state, and says all that one run has to
know of those before it that did not end in order.
"""

from dataclasses import dataclass, field, fields, replace
from typing import Any, NamedTuple

__all__ = ("DEATHS_ALONE", "GROUP", "REACH", "CrashRecord", "Suspect")

GROUP = 256
"""So many items are under way at most while the one that kills is not looked for one by one."""

REACH = 65_536
"""
So many items are gone carefully with.

As many as can be under way beyond the lowest mark of a frontend's worker
(:data:`~m3.engine.answers.MOST_UNANSWERED`).
"""

DEATHS_ALONE = 2
"""So often the process has to die with an item alone under way before that item is put aside."""


class Suspect(NamedTuple):
    """
    An item that was let through alone.

    Attributes:
        mark: of its shard, right before it.
        position: of the item, as text.
        deaths: how often the process has died meanwhile.
    """

    mark: Any
    position: str
    deaths: int = 0


@dataclass(frozen=True, slots=True)
class CrashRecord:
    """
    What is known of the runs that ended by the death of their process.

    Attributes:
        deaths: how many did so, one after the other, without moving the mark on.
        is_running: whether a run has begun and not ended in order: it goes on, or has died.
        marks: where the shards stood, as in a checkpoint.
        ahead: with so many further items a run has to be careful.
        singly: so many of them go through alone.
        in_hand: the shard of the last item that was let through alone.
        suspects: by shard, the item that it was let through alone at its mark.
    """

    deaths: int = 0
    is_running: bool = False
    marks: dict[str, Any] = field(default_factory=dict)
    ahead: int = 0
    singly: int = 0
    in_hand: str | None = None
    suspects: dict[str, Suspect] = field(default_factory=dict)

    @classmethod
    def from_plain(cls, kept: dict[str, Any] | None) -> "CrashRecord":
        """Return what :meth:`plain` was made of; the record of no run at all for None."""
        if kept is None:
            return cls()
        suspects = {shard: Suspect(*values) for shard, values in kept["suspects"].items()}
        return cls(**kept | {"suspects": suspects})

    def plain(self) -> dict[str, Any]:
        """Return it as it is kept."""
        return {each.name: getattr(self, each.name) for each in fields(self)}

    def begun(self, marks: dict[str, Any], most: int) -> "CrashRecord":
        """
        Return it for a run that begins at *marks*.

        Args:
            marks: where each shard stands.
            most: after so many deaths a run is careful.
        """
        if not any(marks.get(shard) == mark for shard, mark in self.marks.items()):
            return CrashRecord(is_running=True, marks=marks)
        found = self.at(marks)
        if self.is_running:
            found = found.died()
        ahead = found.ahead or (REACH if found.deaths >= most else 0)
        return replace(found, is_running=True, ahead=ahead, in_hand=None)

    def at(self, marks: dict[str, Any]) -> "CrashRecord":
        """Return it at *marks*, without the suspects of shards that have moved on."""
        suspects = {
            shard: suspect
            for shard, suspect in self.suspects.items()
            if shard in marks and suspect.mark == marks[shard]
        }
        return replace(self, marks=marks, suspects=suspects)

    def died(self) -> "CrashRecord":
        """Return it after the death of its run, which makes who was alone with it a suspect."""
        suspects = dict(self.suspects)
        if self.in_hand in suspects:
            suspect = suspects[self.in_hand]
            suspects[self.in_hand] = suspect._replace(deaths=suspect.deaths + 1)
        singly = self.singly or min(GROUP, self.ahead)
        return replace(self, deaths=self.deaths + 1, singly=singly, suspects=suspects)

    def deaths_over(self, shard: str, position: str) -> int:
        """Return how often the process has died with that item alone."""
        suspect = self.suspects.get(shard)
        return suspect.deaths if suspect is not None and suspect.position == position else 0

    def letting_through(self, shard: str, position: str) -> "CrashRecord":
        """Return it with that item, the next one of its shard, alone under way."""
        suspect = Suspect(self.marks.get(shard), position, self.deaths_over(shard, position))
        return replace(self, in_hand=shard, suspects=self.suspects | {shard: suspect})

    def passed(self) -> "CrashRecord":
        """Return it with one item less to be careful with."""
        return replace(self, ahead=self.ahead - 1, singly=max(0, self.singly - 1))

    def ended(self) -> "CrashRecord":
        """Return it for a run that has ended in order, which says nothing about deaths."""
        return replace(self, is_running=False, in_hand=None)
