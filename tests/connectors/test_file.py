"""The connector ``file``: reads in order; replaces as a whole, durably, or not at all."""

import errno
import os
import random
import signal
import stat
import subprocess
import threading
from pathlib import Path

import pytest

from m3.connectors.file import FileBackend, FileFrontend
from m3.errors import BatchError, ConfigError
from m3.stages import Failure


def names(directory):
    return sorted(path.name for path in directory.iterdir())


# -- frontend ---------------------------------------------------------------


def test_files_are_read_in_their_order(tmp_path, read_all):
    """The last record of a file that does not end with a line feed stays its own."""
    first, second = tmp_path / "first", tmp_path / "second"
    first.write_bytes(b"a\nb")
    second.write_bytes(b"c\n")
    assert read_all(FileFrontend(path=[first, str(second)])) == [b"a", b"b", b"c"]
    assert read_all(FileFrontend(path=str(second))) == [b"c"]


def test_a_failure_says_where_in_which_file(tmp_path, read_all):
    """The position of a record that cannot be read has the file, the line and the offset."""
    good, bad = tmp_path / "good", tmp_path / "bad"
    good.write_bytes(b"a\nb\n")
    bad.write_bytes(b"ok\n\xff\n")
    failure = read_all(FileFrontend(path=[good, bad], encoding="utf-8"))[-1]
    assert isinstance(failure, Failure)
    assert failure.position == (str(bad), 2, 3)


def test_a_missing_file_fails_before_the_run(tmp_path):
    """Each file is looked for in ``setup``, and the error names it."""
    frontend = FileFrontend(path=[os.devnull, tmp_path / "missing"])
    with pytest.raises(FileNotFoundError, match="missing"):
        frontend.setup()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_fails_before_the_run(tmp_path):
    """Permissions are checked in ``setup``."""
    path = tmp_path / "secret"
    path.touch(mode=0)
    with pytest.raises(PermissionError, match="secret"):
        FileFrontend(path=path).setup()


def test_no_file_at_all_is_refused():
    """An empty list of files, as of a pattern that matches none, is an error."""
    with pytest.raises(ConfigError, match="no file"):
        FileFrontend(path=[])


def test_stop_wakes_a_fifo_that_nobody_opened(tmp_path, reading):
    """A FIFO without a writer blocks neither its opening nor a stop."""
    path = tmp_path / "fifo"
    os.mkfifo(path)
    assert reading(FileFrontend(path=path)).stop() == []


def test_a_fifo_is_read_until_its_writer_leaves(tmp_path, reading):
    """A FIFO gives what its writer wrote, and ends with it."""
    path = tmp_path / "fifo"
    os.mkfifo(path)
    reader = reading(FileFrontend(path=path))
    with path.open("wb") as writer:
        writer.write(b"a\nb\n")
    assert reader.join() == [b"a", b"b"]


def test_a_stop_ends_between_files(tmp_path):
    """After a stop no further file is opened, and no half record is an item."""
    path = tmp_path / "file"
    path.write_bytes(b"a\nb\nrest")
    frontend = FileFrontend(path=[path, path])
    frontend.setup()
    items = frontend.produce()
    assert next(items) == b"a"
    frontend.stop()
    assert list(items) == [b"b"]
    frontend.cleanup()


# -- backend ----------------------------------------------------------------


def test_what_is_written_reads_the_same(tmp_path, read_all, write_all):
    """Records without line feeds, of any bytes, come back as they were."""
    source = random.Random(3)
    items = [source.randbytes(source.randrange(50)).replace(b"\n", b"") for _ in range(5000)]
    path = tmp_path / "file"
    write_all(FileBackend(path=path), items[:10], items[10:])
    assert path.read_bytes() == b"".join(item + b"\n" for item in items)
    assert read_all(FileFrontend(path=path)) == items


def test_text_and_other_bytes_are_written_too(tmp_path, write_all):
    """Text is encoded, bytearrays and views are bytes."""
    path = tmp_path / "file"
    write_all(FileBackend(path=path), ["ä", bytearray(b"b"), memoryview(b"c"), b"d"])
    assert path.read_bytes() == "ä\nb\nc\nd\n".encode()
    write_all(FileBackend(path=path, encoding="latin-1", errors="replace"), ["ä€"])
    assert path.read_bytes() == b"\xe4?\n"


@pytest.mark.parametrize("item", [1, None, {"a": 1}, ["a"]])
def test_other_objects_are_refused_and_the_rest_is_written(tmp_path, item):
    """An item that is neither fails by itself, and the others of its batch are written."""
    path = tmp_path / "file"
    backend = FileBackend(path=path)
    backend.setup()
    with pytest.raises(BatchError, match="bytes or text") as caught:
        backend.process_batch([b"good", item, b"too"])
    assert [(index, type(error)) for index, error in caught.value.errors.items()] == [
        (1, TypeError)
    ]
    backend.process_batch([b"after"])
    backend.cleanup()
    assert path.read_bytes() == b"good\ntoo\nafter\n"


def test_an_empty_run_makes_an_empty_file(tmp_path, write_all):
    """A run without items leaves a file without records, not the old one."""
    path = tmp_path / "file"
    path.write_bytes(b"old")
    write_all(FileBackend(path=path))
    assert path.read_bytes() == b""


def test_nothing_appears_before_the_end(tmp_path):
    """Until ``cleanup`` a reader sees the old content, after it all of the new."""
    path = tmp_path / "file"
    path.write_bytes(b"old\n")
    backend = FileBackend(path=path)
    backend.setup()
    backend.process_batch([b"x" * 1_000_000])
    assert path.read_bytes() == b"old\n"
    backend.cleanup()
    assert path.read_bytes() == b"x" * 1_000_000 + b"\n"
    assert names(tmp_path) == ["file"]


@pytest.mark.parametrize("old", [b"old\n", None])
def test_a_failed_run_leaves_what_was_there(tmp_path, old, write_all):
    """When the run has failed, the target is untouched and nothing lies beside it."""
    path = tmp_path / "file"
    if old is not None:
        path.write_bytes(old)
    write_all(FileBackend(path=path), [b"new"], failed=True)
    assert names(tmp_path) == ([] if old is None else ["file"])
    assert old is None or path.read_bytes() == old


def test_the_file_is_durable_before_it_appears(tmp_path, monkeypatch, write_all):
    """The order is: sync the file, put it in its place, sync the directory."""
    path = tmp_path / "file"
    events: list[str] = []
    real_fsync, real_replace = os.fsync, os.replace

    def fsync(descriptor):
        is_directory = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        events.append("sync directory" if is_directory else f"sync {os.fstat(descriptor).st_size}")
        real_fsync(descriptor)

    def replace(*arguments):
        events.append("replace")
        real_replace(*arguments)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", replace)
    write_all(FileBackend(path=path), [b"record"])
    assert events == ["sync 7", "replace", "sync directory"]


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_failing_end_leaves_what_was_there(tmp_path, monkeypatch, call, write_all):
    """What fails at the very end is raised, and the old content stays, alone."""
    path = tmp_path / "file"
    path.write_bytes(b"old\n")

    def fail(*_arguments):
        raise OSError(errno.ENOSPC, "no space")

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(OSError, match="no space"):
        write_all(FileBackend(path=path), [b"new"])
    assert path.read_bytes() == b"old\n"
    assert names(tmp_path) == ["file"]


def test_kill_leaves_the_old_content(tmp_path, python):
    """A process killed with SIGKILL after writing a lot has changed nothing in the target."""
    path = tmp_path / "file"
    path.write_bytes(b"old\n")
    program = """
import sys
from m3.connectors.file import FileBackend
backend = FileBackend(path=sys.argv[1])
backend.setup()
for _ in range(100):
    backend.process_batch([b"x" * 100_000])
print("written", flush=True)
sys.stdin.read()
"""
    process = python(program, path, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"written\n"
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert path.read_bytes() == b"old\n"


def test_permissions_are_kept(tmp_path, write_all):
    """The file that replaces another has its permissions; a new one those of the umask."""
    old, new, other = tmp_path / "old", tmp_path / "new", tmp_path / "other"
    old.touch()
    old.chmod(0o604)
    write_all(FileBackend(path=old), [b"a"])
    write_all(FileBackend(path=new), [b"a"])
    other.touch()
    assert stat.S_IMODE(old.stat().st_mode) == 0o604
    assert new.stat().st_mode == other.stat().st_mode


@pytest.mark.parametrize("exists", [True, False])
def test_a_link_stays_and_what_it_points_to_is_replaced(tmp_path, exists, write_all):
    """A symbolic link is followed, into another directory too, dangling or not."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    target, link = elsewhere / "target", tmp_path / "link"
    if exists:
        target.write_bytes(b"old")
    link.symlink_to(target)
    write_all(FileBackend(path=link), [b"new"])
    assert link.is_symlink()
    assert target.read_bytes() == b"new\n"
    assert names(elsewhere) == ["target"]


def test_a_missing_directory_fails_before_the_run(tmp_path):
    """The error names the file that was asked for, not the one that would replace it."""
    path = tmp_path / "missing" / "file"
    with pytest.raises(FileNotFoundError, match=str(path)):
        FileBackend(path=path).setup()


def test_a_directory_is_not_a_target(tmp_path):
    """A directory is refused before the run."""
    with pytest.raises(IsADirectoryError):
        FileBackend(path=tmp_path).setup()


def test_append_adds_to_the_end_as_the_items_come(tmp_path, write_all):
    """With ``append`` the old content stays and each batch is there at once."""
    path = tmp_path / "file"
    path.write_bytes(b"old\n")
    backend = FileBackend(path=path, append=True)
    backend.setup()
    backend.process_batch([b"a", b"b"])
    assert path.read_bytes() == b"old\na\nb\n"
    backend.cleanup()
    write_all(FileBackend(path=path, append=True), [b"c"])
    assert path.read_bytes() == b"old\na\nb\nc\n"


def test_devices_are_written_directly(write_all):
    """/dev/null stays what it is, and /dev/full fails the batch."""
    write_all(FileBackend(path=os.devnull), [b"gone"])
    assert Path(os.devnull).is_char_device()
    with pytest.raises(OSError, match="No space left"):
        write_all(FileBackend(path="/dev/full"), [b"gone"])


def test_dev_stdout_is_written_after_what_is_there(tmp_path, python):
    """``/dev/stdout`` redirected to a file adds to that file, and does not replace it."""
    program = """
import sys
from m3.connectors.file import FileBackend
print("header", flush=True)
backend = FileBackend(path="/dev/stdout")
backend.setup()
backend.process_batch([b"record"])
backend.cleanup()
"""
    path = tmp_path / "file"
    with path.open("wb") as stdout:
        assert python(program, stdout=stdout).wait(timeout=30) == 0
    assert path.read_bytes() == b"header\nrecord\n"


def test_a_fifo_gets_the_items_as_they_come(tmp_path, write_all):
    """A FIFO is opened and written, in order, while the run goes on."""
    path = tmp_path / "fifo"
    os.mkfifo(path)
    received: list[bytes] = []

    def read() -> None:
        with path.open("rb") as fifo:
            received.extend(fifo)

    reader = threading.Thread(target=read)
    reader.start()
    write_all(FileBackend(path=path), [b"a", b"b"], [b"c" * 200_000])
    reader.join(timeout=20)
    assert received == [b"a\n", b"b\n", b"c" * 200_000 + b"\n"]


def test_a_failing_setup_leaves_nothing_beside_the_file(tmp_path, monkeypatch):
    """When the new file cannot be given the permissions of the old, it is removed again."""
    path = tmp_path / "file"
    path.write_bytes(b"old\n")

    def fail(*_arguments):
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr(os, "fchmod", fail)
    with pytest.raises(OSError, match="broken"):
        FileBackend(path=path).setup()
    assert names(tmp_path) == ["file"]


def test_an_unknown_encoding_is_refused():
    """A typing error in the option is an error of the configuration."""
    with pytest.raises(ConfigError, match="utf-9"):
        FileBackend(path="file", encoding="utf-9")


@pytest.mark.parametrize("encoding", ["utf-16", "cp037"])
def test_encodings_with_other_line_ends_are_refused(encoding):
    """A file whose line feeds are not its text's line ends could not be read again."""
    with pytest.raises(ConfigError, match=encoding):
        FileBackend(path="file", encoding=encoding)


def test_one_worker_at_most():
    """Both stages say that several workers would tear records apart."""
    assert FileFrontend.max_workers == FileBackend.max_workers == 1


def test_no_descriptor_is_left(tmp_path, read_all, write_all, descriptors):
    """Fifty runs, failed ones too, leave as many descriptors open as there were."""
    path = tmp_path / "file"
    write_all(FileBackend(path=path), [b"a"])
    before = descriptors()
    for number in range(50):
        write_all(FileBackend(path=path, append=number % 3 == 0), [b"a"], failed=number % 2 == 0)
        read_all(FileFrontend(path=path))
    assert descriptors() == before
