"""What is known of runs that died, and what the next one makes of it."""

from dataclasses import replace

import pytest

from m3._plain import dumps, loads
from m3.engine.answers import MOST_UNANSWERED
from m3.engine.crash_record import GROUP, REACH, CrashRecord, Suspect

MARKS = {"a/0": 10, "b/0": None}
MOST = 3


def died(record, times=1, marks=MARKS):
    """Return the record of the next run, after so many that died at *marks*."""
    for _ in range(times):
        record = record.begun(marks, MOST)
    return record


def test_deaths_are_counted_at_one_mark():
    """Each run that begins at the mark of one that did not end is one death more."""
    record = died(CrashRecord(), 3)
    assert (record.deaths, record.ahead) == (2, 0)
    record = died(record)
    assert (record.deaths, record.ahead, record.singly) == (3, REACH, 0)


def test_a_mark_that_has_moved_begins_anew():
    """Deaths at other marks say nothing about what comes now."""
    record = died(CrashRecord(), 4)
    assert record.begun({"a/0": 11, "b/0": 5}, MOST) == CrashRecord(
        is_running=True, marks={"a/0": 11, "b/0": 5}
    )


def test_a_shard_that_stays_keeps_the_count():
    """What has killed may be an item of the shard that has not moved."""
    record = died(CrashRecord(), 2).begun({"a/0": 11, "b/0": None}, MOST)
    assert record.deaths == 2


def test_a_run_that_ended_in_order_is_no_death():
    """It changes neither the count nor whether the next run is careful."""
    record = died(CrashRecord(), 3).ended()
    assert not record.is_running
    assert record.begun(MARKS, MOST).deaths == 2
    careful = died(CrashRecord(), 4).ended().begun(MARKS, MOST)
    assert (careful.deaths, careful.ahead, careful.singly) == (3, REACH, 0)


def test_a_death_within_a_group_makes_its_items_go_alone():
    """So many as a group has are let through one by one; what is left is less only at the end."""
    record = died(CrashRecord(), 5)
    assert (record.deaths, record.ahead, record.singly) == (4, REACH, GROUP)
    last = replace(died(CrashRecord(), 4), ahead=7)
    assert died(last).singly == 7


def test_the_item_that_was_alone_is_suspected():
    """Each death with it alone counts, for this item at this mark only."""
    record = died(CrashRecord(), 5).letting_through("a/0", "[11]")
    assert record.deaths_over("a/0", "[11]") == 0
    record = died(record).letting_through("a/0", "[11]")
    assert record.suspects == {"a/0": Suspect(10, "[11]", 1)}
    record = died(record)
    assert record.deaths_over("a/0", "[11]") == 2
    assert record.deaths_over("a/0", "[12]") == 0
    assert record.deaths_over("b/0", "[11]") == 0


def test_a_death_with_nothing_under_way_accuses_nobody():
    """Suspected is who was let through by the run that died, and not by one before it."""
    record = died(died(CrashRecord(), 5).letting_through("a/0", "[11]"))
    assert died(died(record)).deaths_over("a/0", "[11]") == 1


def test_another_item_in_its_place_begins_at_zero():
    """Where an item has come in front of the suspect, the deaths are not its own."""
    record = died(died(CrashRecord(), 5).letting_through("a/0", "[11]"))
    assert record.letting_through("a/0", "[10.5]").deaths_over("a/0", "[10.5]") == 0


def test_an_item_that_is_done_is_no_suspect():
    """Once the mark is behind it, a death is not its fault, also if nothing came after."""
    record = died(CrashRecord(), 5).letting_through("a/0", "[11]").at({"a/0": 11, "b/0": None})
    assert record.suspects == {}
    assert died(record, marks={"a/0": 11, "b/0": None}).suspects == {}


def test_suspects_of_several_shards_are_kept_apart():
    """Each shard has the item behind its mark as its suspect."""
    record = died(died(CrashRecord(), 5).letting_through("a/0", "[11]"))
    record = died(record.letting_through("b/0", "[1]"))
    assert record.suspects == {"a/0": Suspect(10, "[11]", 1), "b/0": Suspect(None, "[1]", 1)}


def test_what_passed_is_counted_down():
    """When as many have passed as could be under way when the process died, it is over."""
    assert REACH == MOST_UNANSWERED
    record = replace(died(CrashRecord(), 5), ahead=3, singly=1)
    steps = [record := record.passed() for _ in range(3)]
    assert [(it.ahead, it.singly) for it in steps] == [(2, 0), (1, 0), (0, 0)]


@pytest.mark.parametrize("ahead", [0, 5])
def test_it_comes_back_as_it_was_kept(ahead):
    """What is kept is plain."""
    record = replace(died(CrashRecord(), 5).letting_through("a/0", "[11]"), ahead=ahead)
    assert CrashRecord.from_plain(loads(dumps(record.plain()))) == record
    assert CrashRecord.from_plain(None) == CrashRecord()
