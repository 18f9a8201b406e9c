"""Files are gone on in: each record once over any interruption, or a clear refusal."""

import bz2
import gzip
import lzma
import os
import random
import threading
from functools import partial

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from m3 import _plain
from m3.connectors._input import places, reading
from m3.connectors._input.places import Fingerprint, fingerprint_of
from m3.connectors._input.records import RecordPosition
from m3.connectors.file import FileFrontend
from m3.connectors.jsonl import JsonlFrontend
from m3.errors import CompressedInputError, StateError
from m3.stages import Failure, Item

PACKERS = {
    "none": bytes,
    "gzip": partial(gzip.compress, mtime=0),
    "bz2": bz2.compress,
    "xz": lzma.compress,
}
content_strategy = st.lists(st.sampled_from([b"\n", b"a", b"\r", b"xyz" * 700, b"\0"])).map(
    b"".join
)
same_file = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)


def begin(path, checkpoint=None, *, frontend=FileFrontend, **options):
    """Return a frontend as the engine prepares it in a run with state."""
    made = frontend(path=path, **options)
    made.wants_positions = True
    made.setup()
    made.resume(None if checkpoint is None else _plain.loads(_plain.dumps(checkpoint)))
    return made


def run(path, checkpoint=None, *, count=None, **options):
    """Return the items that a run reads, and the checkpoint behind the first *count*, or all."""
    frontend = begin(path, checkpoint, **options)
    try:
        items = list(frontend.produce())
        done = items if count is None else items[:count]
        return items, frontend.checkpoint(done[-1].position) if done else checkpoint
    finally:
        frontend.cleanup()


def values(items):
    """Return the values; of a record that was too long, as much as is always kept."""
    return [item.value[:3] if isinstance(item, Failure) else item.value for item in items]


def records_of(data):
    records = data.split(b"\n")
    return records if records[-1] else records[:-1]


def damage(path, old, new):
    assert old in path.read_bytes()
    path.write_bytes(path.read_bytes().replace(old, new, 1))


# -- positions --------------------------------------------------------------


@given(data=content_strategy, block=st.sampled_from([1, 7, 1000, 262144]))
@same_file
def test_each_item_has_the_position_of_its_record(tmp_path, data, block):
    """Whoever goes to the offset of a position finds the record there, and the line counts."""
    path = tmp_path / "file"
    path.write_bytes(data)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading, "BLOCK", block)
        items, _ = run(path)
    assert values(items) == records_of(data)
    for line, item in enumerate(items, 1):
        assert type(item) is Item
        assert item.position == RecordPosition(str(path), line, item.position.offset)
        assert data[item.position.offset :].startswith(item.value)


def test_items_are_bare_unless_somebody_wants_positions(tmp_path, read_all):
    """Without a use for positions the records themselves are yielded."""
    path = tmp_path / "file"
    path.write_bytes(b"a\n")
    assert read_all(FileFrontend(path=path)) == [b"a"]


def test_failures_and_items_beside_them_have_positions(tmp_path):
    """In a block with a record that cannot be read, all others have their positions too."""
    path = tmp_path / "file"
    path.write_bytes(b"1\n{\n3")
    items, _ = run(path, frontend=JsonlFrontend)
    assert [(type(item), item.position.line, item.position.offset) for item in items] == [
        (Item, 1, 0),
        (Failure, 2, 2),
        (Item, 3, 4),
    ]


# -- going on ---------------------------------------------------------------


@pytest.mark.parametrize("pack", PACKERS.values(), ids=PACKERS)
@given(
    data=content_strategy,
    more=content_strategy,
    cut=st.integers(0, 60),
    blocks=st.tuples(*[st.sampled_from([1, 5, 1000, 262144])] * 2),
    limit=st.sampled_from([3, 100_000]),
)
@same_file
def test_what_was_read_before_and_after_is_everything_once(
    tmp_path, pack, data, more, cut, blocks, limit
):
    """For any content, any cut and any growth behind a line end, nothing is lost or repeated."""
    path = tmp_path / "file"
    path.write_bytes(pack(data))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading, "BLOCK", blocks[0])
        items, checkpoint = run(path, count=cut, limit=limit)
        if data.endswith(b"\n") or more.startswith(b"\n"):
            data += more
            path.write_bytes(pack(data) if pack is bytes else path.read_bytes() + pack(more))
        whole, _ = run(path, limit=limit)
        patch.setattr(reading, "BLOCK", blocks[1])
        rest, _ = run(path, checkpoint, limit=limit)
    positions = [item.position for item in items[:cut] + rest]
    assert positions == [item.position for item in whole]
    assert values(items[:cut]) + values(rest) == values(whole)


@pytest.mark.parametrize("pack", PACKERS.values(), ids=PACKERS)
def test_a_record_without_a_line_end_that_goes_on_is_refused(tmp_path, pack):
    """The last record was delivered as it was; what is now more of it belongs to no item."""
    path = tmp_path / "file"
    path.write_bytes(pack(b"one\ntwo"))
    _, checkpoint = run(path)
    with path.open("ab") as file:
        file.write(pack(b" and more\nthree\n"))
    with pytest.raises(StateError, match=r"line 2 .* no line end.* goes on at byte 7"):
        run(path, checkpoint)


def test_a_line_end_that_comes_later_belongs_to_the_last_record(tmp_path):
    r"""``two`` and then ``\nthree`` is what ``two\nthree`` would have been."""
    path = tmp_path / "file"
    path.write_bytes(b"one\ntwo")
    _, checkpoint = run(path)
    assert run(path, checkpoint)[0] == []
    path.write_bytes(b"one\ntwo\nthree")
    items, checkpoint = run(path, checkpoint)
    assert items == [Item(b"three", RecordPosition(str(path), 3, 8))]
    assert run(path, checkpoint)[0] == []


def test_a_checkpoint_can_be_asked_for_while_the_file_is_read(tmp_path, monkeypatch):
    """The place of a record is known as soon as the record is, and those of all before it."""
    monkeypatch.setattr(reading, "BLOCK", 10)
    monkeypatch.setattr(places, "MANY", 8)
    path = tmp_path / "file"
    data = b"".join(b"%d\n" % number for number in range(200))
    path.write_bytes(data)
    frontend = begin(path)
    seen = []
    for item in frontend.produce():
        seen.append(item)
        for earlier in (item, seen[len(seen) // 2]):
            checkpoint = frontend.checkpoint(earlier.position)
            rest, _ = run(path, checkpoint)
            assert values(rest) == records_of(data)[earlier.position.line :]
    frontend.cleanup()


def test_an_uncompressed_file_is_not_read_again(tmp_path, monkeypatch):
    """Going on reads the first and the last KiB and what is new, however long the file is."""
    path = tmp_path / "file"
    with path.open("wb") as file:
        file.write(b"first\n")
        file.seek(2**34)  # 16 GiB, of which the disk holds nothing
        file.write(b"\nlast\n")
    place = places.Place(3, 2**34 + 1, size=2**34 + 1)
    with path.open("rb") as file:
        digest = fingerprint_of(file.fileno(), place.size).digest()
    checkpoint = {"version": 1, "files": [place._replace(digest=digest).text(str(path))]}
    assert values(run(path, checkpoint)[0]) == [b"last"]


def test_no_checkpoint_means_the_beginning(tmp_path):
    """``resume(None)`` reads everything."""
    path = tmp_path / "file"
    path.write_bytes(b"a\nb\n")
    assert values(run(path)[0]) == [b"a", b"b"]


# -- a changed input --------------------------------------------------------


LINES = [b"line %06d of the input" % number for number in range(10_000)]
CHANGES = {
    "replaced": lambda data: data.replace(b"line", b"LINE"),
    "prepended": lambda data: b"new line\n" + data,
    "first byte": lambda data: b"L" + data[1:],
    "a line taken out": lambda data: b"".join(data.splitlines(keepends=True)[:5000]),
    "shorter by a byte": lambda data: data[:-1],
    "shorter, then grown": lambda data: data[:100_000] + b"something else\n" * 20_000,
    "empty": lambda data: b"",
}


@pytest.mark.parametrize("pack", PACKERS.values(), ids=PACKERS)
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("count", [1, 5000, None])
def test_a_changed_input_is_refused(tmp_path, pack, change, count):
    """What no longer begins with what had been read is refused, with what can be done."""
    path = tmp_path / "file"
    data = b"".join(line + b"\n" for line in LINES)
    path.write_bytes(pack(data))
    _, checkpoint = run(path, count=count)
    path.write_bytes(pack(change(data)))
    with pytest.raises(StateError, match=r"(?s)file has .*--from-start"):
        begin(path, checkpoint)


@pytest.mark.parametrize(
    "checkpoint",
    [
        [],
        {},
        "x",
        3,
        {"version": 2, "files": []},
        {"version": 1, "files": ["1 2 3"]},
        {"version": 1},
    ],
)
def test_what_is_no_checkpoint_is_refused(tmp_path, checkpoint):
    """A checkpoint that cannot be read is never taken for a beginning at zero."""
    path = tmp_path / "file"
    path.touch()
    with pytest.raises(StateError, match="--from-start"):
        begin(path, checkpoint)


@given(blocks=st.lists(st.binary(max_size=3000), max_size=5))
def test_a_fingerprint_of_blocks_is_that_of_the_file(tmp_path_factory, blocks):
    """What the reader computes as it reads is what is found again in the file."""
    fingerprint = Fingerprint()
    path = tmp_path_factory.getbasetemp() / "fingerprint"
    path.write_bytes(b"".join(blocks) + b"something behind it")
    for block in blocks:
        fingerprint.feed(block)
    with path.open("rb") as file:
        again = fingerprint_of(file.fileno(), fingerprint.size)
    assert again.digest() == fingerprint.digest()
    assert again.size == sum(map(len, blocks))


# -- several files ----------------------------------------------------------


def write(folder, **contents):
    for name, content in contents.items():
        (folder / name).write_bytes(content)


def test_new_files_are_read_wherever_they_come(tmp_path):
    """A file that appears before the current one is read, and the current one is gone on in."""
    write(tmp_path, b=b"1\n2\n", d=b"3\n4\n")
    _, checkpoint = run(tmp_path, count=3)
    write(tmp_path, a=b"5\n", c=b"6\n", e=b"7\n")
    items, later = run(tmp_path, checkpoint)
    assert values(items) == [b"5", b"6", b"4", b"7"]
    assert run(tmp_path, later)[0] == []


def test_a_checkpoint_in_a_new_file_keeps_the_place_in_the_old_one(tmp_path):
    """An interruption before the half-read file is reached again does not forget how far it was."""
    write(tmp_path, b=b"1\n2\n3\n")
    _, checkpoint = run(tmp_path, count=2)
    write(tmp_path, a=b"4\n5\n")
    items, checkpoint = run(tmp_path, checkpoint, count=1)
    assert values(items) == [b"4", b"5", b"3"]
    assert values(run(tmp_path, checkpoint)[0]) == [b"5", b"3"]


def test_a_finished_file_may_go_and_may_grow(tmp_path):
    """One that is gone is forgotten, what was added to one is read."""
    write(tmp_path, a=b"1\n", b=b"2\n", c=b"3\n4\n")
    _, checkpoint = run(tmp_path, count=3)
    (tmp_path / "a").unlink()
    write(tmp_path, b=b"2\n5\n")
    assert values(run(tmp_path, checkpoint)[0]) == [b"5", b"4"]


def test_a_finished_file_that_is_not_named_any_more_is_remembered(tmp_path):
    """When it is named again, only what was added to it comes."""
    write(tmp_path, a=b"1\n2\n", b=b"3\n")
    a, b = tmp_path / "a", tmp_path / "b"
    _, checkpoint = run(a)
    items, checkpoint = run(b, checkpoint)
    assert values(items) == [b"3"]
    assert run([b, a], checkpoint)[0] == []
    write(tmp_path, a=b"1\n2\n4\n")
    assert values(run([b, a], checkpoint)[0]) == [b"4"]
    a.unlink()
    write(tmp_path, b=b"3\n5\n")
    _, checkpoint = run(b, checkpoint)
    write(tmp_path, a=b"6\n")
    assert values(run([b, a], checkpoint)[0]) == [b"6"]


def test_a_half_read_file_may_not_go(tmp_path):
    """Its other records would be lost silently."""
    write(tmp_path, a=b"1\n2\n", b=b"3\n")
    _, checkpoint = run(tmp_path, count=1)
    (tmp_path / "a").unlink()
    with pytest.raises(StateError, match=r"a is gone.* to line 1 only"):
        begin(tmp_path, checkpoint)


def test_a_finished_file_may_not_change(tmp_path):
    """What was read of it can no longer be told from what was not."""
    write(tmp_path, a=b"1\n", b=b"2\n")
    _, checkpoint = run(tmp_path)
    write(tmp_path, a=b"9\n")
    with pytest.raises(StateError, match="a has changed"):
        begin(tmp_path, checkpoint)


def test_a_finished_compressed_file_is_not_decompressed_again(tmp_path):
    """That it begins and ends as it did is enough, so many archives are passed quickly."""
    path = tmp_path / "a.gz"
    noise = random.Random(1).randbytes(100_000)
    packed = bytearray(gzip.compress(noise))
    path.write_bytes(packed)
    _, checkpoint = run(path)
    packed[50_000] ^= 1
    path.write_bytes(packed)
    assert run(path, checkpoint)[0] == []


def test_files_without_records_are_known_too(tmp_path):
    """An empty file before the current one counts as read, and what it gets later is read."""
    write(tmp_path, a=b"", b=b"1\n")
    _, checkpoint = run(tmp_path)
    write(tmp_path, a=b"2\n")
    assert values(run(tmp_path, checkpoint)[0]) == [b"2"]


@given(
    contents=st.lists(content_strategy, min_size=1, max_size=5),
    cuts=st.lists(st.integers(0, 10), max_size=6),
)
@same_file
def test_any_number_of_interruptions_loses_nothing(tmp_path, contents, cuts):
    """Over any number of runs that each get some way, each record of each file is done once."""
    for old in tmp_path.iterdir():
        old.unlink()
    write(tmp_path, **{f"f{number}": data for number, data in enumerate(contents)})
    done, checkpoint = [], None
    for cut in [*cuts, None]:
        items, checkpoint = run(tmp_path, checkpoint, count=cut)
        done += items[:cut]
    assert values(done) == [record for data in contents for record in records_of(data)]


def test_what_cannot_be_read_again_says_so(tmp_path):
    """FIFOs, devices and standard input cannot be gone on in; files can."""
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "file").touch()
    assert FileFrontend(path=tmp_path / "file").can_resume
    assert FileFrontend(path=tmp_path).can_resume
    assert not FileFrontend(path=[tmp_path / "file", tmp_path / "fifo"]).can_resume
    assert not FileFrontend(path="/dev/stdin").can_resume
    assert not JsonlFrontend().can_resume
    assert JsonlFrontend(path=tmp_path / "file").can_resume


def test_no_descriptor_is_left(tmp_path, descriptors):
    """Runs that go on, and such as are refused, close all that they opened."""
    path = tmp_path / "file"
    path.write_bytes(b"a\nb\n")
    before = descriptors()
    _, checkpoint = run(path, count=1)
    run(path, checkpoint)
    path.write_bytes(b"")
    frontend = FileFrontend(path=path)
    frontend.setup()
    with pytest.raises(StateError):
        frontend.resume(checkpoint)
    frontend.cleanup()
    assert descriptors() == before


def test_a_compressed_file_that_was_still_being_written_is_gone_on_with(tmp_path):
    """The run fails at the early end; when the file is complete, the next one reads the rest."""
    path = tmp_path / "file"
    records = [b"%d" % number for number in range(100_000)]
    packed = gzip.compress(b"\n".join(records))
    path.write_bytes(packed[: len(packed) // 2])
    frontend, items = begin(path), []
    with pytest.raises(CompressedInputError):
        items.extend(frontend.produce())
    checkpoint = frontend.checkpoint(items[-1].position)
    frontend.cleanup()
    path.write_bytes(packed)
    rest, _ = run(path, checkpoint)
    assert values(items) + values(rest) == records


def test_a_stop_in_a_compressed_file_is_no_damage(tmp_path, monkeypatch):
    """What was not read because of a stop is not missed, and comes in the next run."""
    monkeypatch.setattr(reading, "BLOCK", 1000)
    path = tmp_path / "file"
    records = [b"%d" % number for number in range(20_000)]
    path.write_bytes(gzip.compress(b"\n".join(records)))
    frontend = begin(path)
    produced = frontend.produce()
    items = [next(produced)]
    frontend.stop()
    items += produced
    checkpoint = frontend.checkpoint(items[-1].position)
    frontend.cleanup()
    assert 0 < len(items) < len(records)
    assert values(items) + values(run(path, checkpoint)[0]) == records


def test_checkpoints_are_made_while_another_thread_reads(tmp_path, monkeypatch):
    """Any checkpoint taken during the reading leads to exactly the records behind it."""
    monkeypatch.setattr(reading, "BLOCK", 500)
    records = [b"%d" % number for number in range(5000)]
    for start in range(0, 5000, 1000):
        write(tmp_path, **{f"f{start}": b"\n".join(records[start : start + 1000])})
    frontend, taken, seen = begin(tmp_path), [], []

    def take():
        while len(seen) < len(records):
            if seen:
                done = len(seen)
                taken.append((done, frontend.checkpoint(seen[done - 1].position)))

    thread = threading.Thread(target=take)
    thread.start()
    for item in frontend.produce():
        seen.append(item)  # noqa: PERF402 - one by one, for the other thread to see
    thread.join(30)
    frontend.cleanup()
    for done, checkpoint in taken[:: len(taken) // 50 + 1]:
        assert values(run(tmp_path, checkpoint)[0]) == records[done:]
