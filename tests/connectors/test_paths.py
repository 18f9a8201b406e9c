"""Files, directories and patterns: which files they stand for, in which order."""

import os

import pytest

from m3.connectors._paths import expanded, is_stream
from m3.errors import ConfigError


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """Make a folder of files the working directory."""
    monkeypatch.chdir(tmp_path)
    for name in ("b/2.log", "b/10.log", "b.log", "a/x/1.log", "a/.hidden", "a/half.tmp", ".git/x"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


@pytest.mark.usefixtures("tree")
def test_names_stay_in_their_order_each_once():
    """What is named twice is read once, where it is named first; a missing file stays named."""
    assert expanded(["b.log", "missing", "b.log", "b/2.log"]) == ["b.log", "missing", "b/2.log"]


@pytest.mark.usefixtures("tree")
def test_a_directory_stands_for_what_is_in_and_below_it():
    """Sorted, without what is hidden and what is still being written."""
    assert expanded(["a", "b"]) == ["a/x/1.log", "b/10.log", "b/2.log"]
    assert expanded(["."]) == ["./a/x/1.log", "./b/10.log", "./b/2.log", "./b.log"]


@pytest.mark.usefixtures("tree")
def test_a_pattern_stands_for_the_files_that_match():
    """``*`` within a directory, ``**`` over any number of them; never a directory itself."""
    assert expanded(["*"]) == ["b.log"]
    assert expanded(["*/*.log"]) == ["b/10.log", "b/2.log"]
    assert expanded(["**/*.log"]) == ["a/x/1.log", "b/10.log", "b/2.log", "b.log"]
    assert expanded(["a/**"]) == ["a/x/1.log"]
    assert expanded(["a/*.tmp"]) == ["a/half.tmp"]


def test_a_name_that_is_there_is_no_pattern(tree):
    """A file whose name looks like a pattern can be named."""
    (tree / "b[1].log").touch()
    assert expanded(["b[1].log"]) == ["b[1].log"]


def test_links_to_files_are_read_and_links_to_directories_are_not_followed(tree):
    """So a circle of links does no harm."""
    os.symlink("../b.log", tree / "a/link")
    os.symlink("..", tree / "a/up")
    os.symlink("nowhere", tree / "a/broken")
    assert expanded(["a"]) == ["a/link", "a/x/1.log"]


@pytest.mark.usefixtures("tree")
@pytest.mark.parametrize("path", ["*.csv", "nowhere/**", "empty"])
def test_no_file_is_an_error(path):
    """A pattern or a directory without a file is a mistake more often than meant."""
    os.mkdir("empty")
    with pytest.raises(ConfigError, match="no file"):
        expanded([path])


def test_what_is_a_stream(tmp_path):
    """FIFOs, devices and descriptors are; files and what is not there are not."""
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "file").touch()
    assert is_stream(tmp_path / "fifo")
    assert is_stream("/dev/stdin")
    assert not is_stream(tmp_path / "file")
    assert not is_stream(tmp_path / "missing")
