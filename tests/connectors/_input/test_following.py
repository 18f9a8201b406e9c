"""A followed file: what is written comes, over rotations and restarts, each record once."""

import gzip
import os
import shutil
import threading
from contextlib import contextmanager

import pytest

from m3 import _plain
from m3.connectors._input import following
from m3.connectors._input.wakeup import Wakeup
from m3.connectors.file import FileFrontend
from m3.connectors.jsonl import JsonlFrontend
from m3.errors import ConfigError, StateError


@pytest.fixture(autouse=True)
def _quick_looks(monkeypatch):
    monkeypatch.setattr(following, "INTERVAL", 0.001)


@pytest.fixture
def log(tmp_path):
    return tmp_path / "app.log"


def write(path, data):
    with path.open("ab") as file:
        file.write(data)


def frontend(path, checkpoint=..., **options):
    """Return a frontend that follows; with a checkpoint, as the engine prepares it with state."""
    made = FileFrontend(path=path, follow=True, **options)
    if checkpoint is ...:
        return made
    made.wants_positions = True
    setup = made.setup

    def setup_and_resume():
        setup()
        made.resume(_plain.loads(_plain.dumps(checkpoint)))

    made.setup = setup_and_resume
    return made


def values(items):
    return [item.value for item in items]


def test_what_is_written_comes(log, reading):
    """Records come as they are written, a half one when its line end is there."""
    write(log, b"a\n")
    reader = reading(frontend(log))
    reader.wait_for_items(1)
    write(log, b"b\nha")
    reader.wait_for_items(1)
    write(log, b"lf\n")
    reader.wait_for_items(1)
    assert reader.stop() == [b"a", b"b", b"half"]


def test_documents_come_too(log, reading):
    """``jsonl`` follows as well."""
    write(log, b"[1]\n")
    reader = reading(JsonlFrontend(path=log, follow=True))
    reader.wait_for_items(1)
    assert reader.stop() == [[1]]


def test_an_incomplete_line_is_a_record_at_the_stop_if_nothing_is_kept(log, reading):
    """Without state nobody would read it later."""
    write(log, b"a\nrest")
    reader = reading(frontend(log))
    reader.wait_for_items(1)
    assert reader.stop() == [b"a", b"rest"]


def test_an_incomplete_line_waits_for_the_next_run_that_goes_on(log, reading):
    """With state it is read when it is complete."""
    write(log, b"a\nre")
    first = frontend(log, None)
    reader = reading(first)
    reader.wait_for_items(1)
    items = reader.stop()
    assert values(items) == [b"a"]
    write(log, b"st\n")
    reader = reading(frontend(log, first.checkpoint(items[-1].position)))
    reader.wait_for_items(1)
    assert values(reader.stop()) == [b"rest"]


def test_a_stop_wakes_at_once(log, reading, monkeypatch):
    """Also if it would be long until the next look, and while the file is missing."""
    monkeypatch.setattr(following, "INTERVAL", 1000)
    assert reading(frontend(log)).stop() == []
    write(log, b"a\n")
    reader = reading(frontend(log))
    reader.wait_for_items(1)
    assert reader.stop() == [b"a"]


def test_a_file_that_is_not_there_yet_is_waited_for(log, reading):
    """Its directory must be there."""
    reader = reading(frontend(log))
    write(log, b"a\n")
    reader.wait_for_items(1)
    assert reader.stop() == [b"a"]
    with pytest.raises(FileNotFoundError):
        frontend(log.parent / "missing" / "app.log").setup()


def test_rotation_by_renaming(log, reading):
    """The old file is read to its end, also what comes after the renaming; then the new one."""
    write(log, b"a\n")
    reader = reading(frontend(log, None))
    reader.wait_for_items(1)
    log.rename(log.with_name("app.log.1"))
    write(log.with_name("app.log.1"), b"b\nend")
    write(log, b"c\n")
    reader.wait_for_items(3)
    items = reader.stop()
    assert values(items) == [b"a", b"b", b"end", b"c"]
    assert [(item.position.source, item.position.line) for item in items] == [
        (str(log), 1),
        (str(log), 2),
        (str(log), 3),
        (f"{log}#2", 1),
    ]


def test_a_file_that_is_missing_for_a_while(log, reading):
    """Between the renaming and the new file the old one is read on."""
    write(log, b"a\n")
    reader = reading(frontend(log))
    reader.wait_for_items(1)
    log.rename(log.with_name("app.log.1"))
    write(log.with_name("app.log.1"), b"b\n")
    reader.wait_for_items(1)
    write(log, b"c\n")
    reader.wait_for_items(1)
    assert reader.stop() == [b"a", b"b", b"c"]


@pytest.mark.parametrize("new", [b"b\n", b"much more than there was before\n" * 200])
def test_rotation_by_cutting_off(log, reading, new):
    """A file that is shorter than it was, or has other content, is read from its beginning."""
    write(log, b"a\n" * 100)
    reader = reading(frontend(log))
    reader.wait_for_items(100)
    with log.open("r+b") as file:
        file.truncate(0)
        file.write(new)
    count = new.count(b"\n")
    reader.wait_for_items(count)
    assert reader.stop() == [b"a"] * 100 + new.splitlines()


def read_first(log, reading, count):
    """Follow *log* for *count* records; return the checkpoint behind them."""
    first = frontend(log, None)
    reader = reading(first)
    reader.wait_for_items(count)
    items = reader.stop()
    return first.checkpoint(items[count - 1].position)


def follow_on(log, reading, checkpoint, count):
    """Return the values of the next *count* records."""
    reader = reading(frontend(log, checkpoint))
    reader.wait_for_items(count)
    return values(reader.stop())


def test_going_on_in_the_same_file(log, reading):
    """What was written in between comes, and nothing twice."""
    write(log, b"1\n2\n3\n")
    checkpoint = read_first(log, reading, 2)
    write(log, b"4\n")
    assert follow_on(log, reading, checkpoint, 2) == [b"3", b"4"]


def test_files_rotated_in_between_are_read_first(log, reading):
    """The one that was followed to its end, then those after it, then the one that is there."""
    write(log, b"1\n2\n")
    checkpoint = read_first(log, reading, 1)
    write(log, b"3\n")
    log.rename(log.with_name("app.log.1"))
    write(log, b"4\n")
    log.with_name("app.log.1").rename(log.with_name("app.log.2"))
    log.rename(log.with_name("app.log.1"))
    write(log, b"5\n")
    write(log.with_name("app.log.9"), b"older\n")
    os.utime(log.with_name("app.log.9"), ns=(0, 0))
    write(log.with_name("app.log-errors"), b"another log\n")
    assert follow_on(log, reading, checkpoint, 4) == [b"2", b"3", b"4", b"5"]


def test_a_rotated_file_in_between_may_be_compressed(log, reading):
    """Such as ``.1.gz``; only the one that was followed must be as it was."""
    write(log, b"1\n")
    checkpoint = read_first(log, reading, 1)
    log.rename(log.with_name("app.log.2"))
    log.with_name("app.log.1.gz").write_bytes(gzip.compress(b"2\n"))
    write(log, b"3\n")
    assert follow_on(log, reading, checkpoint, 2) == [b"2", b"3"]


def test_a_copy_of_what_was_cut_off_is_read_first(log, reading):
    """The other way of rotating, while nobody was following."""
    write(log, b"1\n2\n3\n")
    checkpoint = read_first(log, reading, 1)
    shutil.copyfile(log, log.with_name("app.log.1"))
    with log.open("r+b") as file:
        file.truncate(0)
    write(log, b"4\n")
    assert follow_on(log, reading, checkpoint, 3) == [b"2", b"3", b"4"]


def test_a_checkpoint_while_the_old_file_is_still_in_hand(log, reading):
    """Positions in a file that was renamed meanwhile lead back to it, later ones to the new one."""
    write(log, b"1\n2\n")
    first = frontend(log, None)
    reader = reading(first)
    reader.wait_for_items(2)
    log.rename(log.with_name("app.log.1"))
    write(log, b"3\n4\n")
    reader.wait_for_items(2)
    items = reader.stop()
    for done in range(1, 5):
        checkpoint = first.checkpoint(items[done - 1].position)
        if done == 4:
            write(log, b"5\n")
        rest = [b"1", b"2", b"3", b"4", b"5"][done : 5 if done == 4 else 4]
        assert follow_on(log, reading, checkpoint, len(rest)) == rest
    # When all of the old file is done, it may go.
    log.with_name("app.log.1").unlink()
    checkpoint = first.checkpoint(items[1].position)
    assert follow_on(log, reading, checkpoint, 3) == [b"3", b"4", b"5"]


def test_a_file_that_cannot_be_found_any_more_is_refused(log, reading):
    """What was not read of it would be lost silently."""
    write(log, b"1\n2\n")
    checkpoint = read_first(log, reading, 1)
    log.unlink()
    write(log, b"9\n8\n7\n")
    write(log.with_name("app.log.1"), b"9\n")
    with pytest.raises(StateError, match=r"(?s)rotated.*lost.*--from-start"):
        frontend(log, checkpoint).setup()


@pytest.mark.parametrize("checkpoint", [{}, [], {"version": 1, "files": []}, "x"])
def test_what_is_no_checkpoint_is_refused(log, checkpoint):
    """Also that of a file that was not followed."""
    with pytest.raises(StateError, match="no checkpoint"):
        FileFrontend(path=log, follow=True).resume(checkpoint)


@pytest.mark.parametrize("options", [{"path": ["a", "b"]}, {"path": "a", "compression": "gzip"}])
def test_what_cannot_be_followed_is_refused(options):
    """Several files, or compressed ones: said when the stage is made."""
    with pytest.raises(ConfigError, match="follow"):
        FileFrontend(**options, follow=True)
    with pytest.raises(ConfigError, match="follow"):
        JsonlFrontend(follow=True)


def test_only_files_can_be_followed(tmp_path):
    """A directory or a FIFO is refused before the run."""
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path, tmp_path / "fifo"):
        with pytest.raises(ConfigError, match="followed"):
            FileFrontend(path=path, follow=True).setup()


def test_many_rotations_lose_nothing(log, reading, descriptors):
    """A writer that rotates as it likes: every record comes, in order, and nothing stays open."""
    before = descriptors()
    reader = reading(frontend(log))

    def produce():
        for number in range(200):
            write(log, b"%d\n" % number)
            reader.wait_for_items(1)
            if number % 20 == 19:
                log.rename(log.with_name(f"app.log.{number}"))

    writer = threading.Thread(target=produce)
    writer.start()
    writer.join(30)
    assert reader.stop() == [b"%d" % number for number in range(200)]
    assert descriptors() == before


def rotate(log):
    """Give the log and those rotated before it the next number each."""
    for number in range(8, 0, -1):
        if log.with_name(f"app.log.{number}").exists():
            log.with_name(f"app.log.{number}").rename(log.with_name(f"app.log.{number + 1}"))
    log.rename(log.with_name("app.log.1"))


@pytest.mark.parametrize("times", [2, 4])
def test_files_rotated_between_two_looks_come_too(log, reading, monkeypatch, times):
    """The one that was read is looked for, and those after it are read before the path."""
    write(log.with_name("app.log.1"), b"older\n")
    write(log, b"0\n")
    first = frontend(log, None)
    reader = reading(first)
    reader.wait_for_items(1)
    with looking_away(monkeypatch):
        for number in range(1, times + 1):
            rotate(log)
            write(log, b"%d\n" % number)
            write(log, b"%d more\n" % number)
    reader.wait_for_items(2 * times)
    write(log, b"end\n")
    reader.wait_for_items(1)
    items = reader.stop()
    rest = [
        text for number in range(1, times + 1) for text in (b"%d" % number, b"%d more" % number)
    ]
    assert values(items) == [b"0", *rest, b"end"]
    for done in range(1, len(items)):
        checkpoint = first.checkpoint(items[done - 1].position)
        assert follow_on(log, reading, checkpoint, len(items) - done) == values(items[done:])


@contextmanager
def looking_away(monkeypatch):
    """Have the follower look at nothing meanwhile: what happens is between two looks."""
    lock, wait = threading.Lock(), Wakeup.wait
    away = threading.Event()

    def waiting(self, seconds):
        away.set()
        with lock:
            return wait(self, seconds)

    with monkeypatch.context() as patches:
        with lock:
            patches.setattr(Wakeup, "wait", waiting)
            assert away.wait(20)
            yield
        patches.undo()


def test_a_file_that_is_rotated_while_those_before_it_are_read(log, reading, monkeypatch):
    """Each time a file has ended, what follows it is looked for anew."""
    write(log, b"0\n")
    reader = reading(frontend(log))
    reader.wait_for_items(1)
    for number in range(1, 6):
        with looking_away(monkeypatch):
            rotate(log)
            write(log, b"%da\n" % number)
            rotate(log)
            write(log, b"%db\n" % number)
        if number % 2:
            reader.wait_for_items(1)
    reader.wait_for_items(7)
    both = [b"%d%c" % (number, letter) for number in range(1, 6) for letter in b"ab"]
    assert reader.stop() == [b"0", *both]


def test_what_was_written_before_a_copy_comes_from_the_copy(log, reading, monkeypatch):
    """A log that is copied and cut off between two looks loses nothing."""
    write(log.with_name("app.log.1"), b"0\nolder\n")
    write(log, b"0\nha")
    first = frontend(log, None)
    reader = reading(first)
    reader.wait_for_items(1)
    with looking_away(monkeypatch):
        write(log, b"lf\n1\n")
        for number in (2, 3):
            log.with_name("app.log.1").rename(log.with_name(f"app.log.{4 - number + 1}"))
            shutil.copyfile(log, log.with_name("app.log.1"))
            os.truncate(log, 0)
            write(log, b"%d\n" % number)
    reader.wait_for_items(4)
    items = reader.stop()
    assert values(items) == [b"0", b"half", b"1", b"2", b"3"]
    write(log, b"4\n")
    for done in range(1, 6):
        rest = [*values(items[done:]), b"4"]
        assert follow_on(log, reading, first.checkpoint(items[done - 1].position), 6 - done) == rest


def test_a_log_that_is_removed_is_followed_by_the_new_one(log, reading):
    """Where the old one is not to be found any more, nothing is between them."""
    write(log.with_name("app.log.1"), b"older\n")
    write(log, b"0\n")
    reader = reading(frontend(log))
    reader.wait_for_items(1)
    log.unlink()
    write(log, b"1\n")
    reader.wait_for_items(1)
    assert reader.stop() == [b"0", b"1"]


def test_a_rotated_file_that_was_read_is_not_read_again(log, reading, monkeypatch):
    """Also if somebody writes to it once more, and so makes it the newest."""
    write(log, b"0\n")
    reader = reading(frontend(log))
    reader.wait_for_items(1)
    rotate(log)
    write(log, b"1\n")
    reader.wait_for_items(1)
    with looking_away(monkeypatch):
        rotate(log)
        write(log.with_name("app.log.2"), b"late\n")
        os.utime(log.with_name("app.log.2"), ns=(2**62, 2**62))
        write(log, b"2\n")
    reader.wait_for_items(1)
    assert reader.stop() == [b"0", b"1", b"2"]
