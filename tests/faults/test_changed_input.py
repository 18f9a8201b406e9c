"""F8: the input changes between two runs: refused, or right; never a silently wrong offset."""

import bz2
import csv
import gzip
import io
import json
import os
import random
import shutil
from contextlib import suppress

import pytest

from m3 import Pipeline
from m3.errors import StageError, StateError

COUNT = 400


def as_lines(names):
    return "".join(f"{name}\n" for name in names).encode()


def as_jsonl(names):
    return b"".join(json.dumps({"name": name}).encode() + b"\n" for name in names)


def as_csv(names):
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["name", "text"])
    writer.writerows([name, 'a "quoted"\nfield, of two lines'] for name in names)
    return text.getvalue().encode()


FORMATS = {
    "lines": ("file", "in", as_lines),
    "jsonl": ("jsonl", "in.jsonl", as_jsonl),
    "csv": ("csv", "in.csv", as_csv),
    "gzip": ("file", "in.gz", lambda names: gzip.compress(as_lines(names), mtime=0)),
    "bz2": ("file", "in.bz2", lambda names: bz2.compress(as_lines(names))),
}


def name_of(item):
    return item["name"].encode() if isinstance(item, dict) else item


class Case:
    """An input, a state and an output in a folder."""

    def __init__(self, folder, frontend, file, encode):
        folder.mkdir()
        self.folder = folder
        self.frontend = frontend
        self.input = folder / file
        self.encode = encode

    def write(self, names):
        self.input.write_bytes(self.encode(names))

    def append(self, names):
        """Add to the input, as far as its format allows."""
        data = self.encode(names)
        with self.input.open("ab") as file:
            file.write(data.split(b"\n", 1)[1] if self.frontend == "csv" else data)

    def run(self, most=-1):
        """Run the pipeline, and stop it after so many items; return the output."""
        state = self.folder / "state"
        pipeline = Pipeline(self.frontend, path=self.input, state=state, checkpoint_interval=0.002)
        left = most

        def pass_on(item):
            nonlocal left
            left -= 1
            if left == 0:
                engine.request_stop()
            return name_of(item)

        pipeline.transport(pass_on, queue_size=2)
        engine = pipeline.backend("file", path=self.folder / "out", queue_size=2).engine()
        engine.start()
        return (self.folder / "out").read_bytes().split()


def changed(chance, names):
    """Return a changed input as names, and what was done; None for names: it is gone."""
    at = chance.randrange(len(names))
    new = [f"new-{n}" for n in range(chance.randrange(1, 20))]
    other = [name[::-1] for name in names]
    way, after = chance.choice(
        [
            ("append", names + new),
            ("touch", names),
            ("truncate", names[:at]),
            ("prepend", new + names),
            ("insert", names[:at] + new + names[at:]),
            ("remove", names[:at] + names[at + 1 :]),
            ("replace", other),
            ("replace the rest", names[:at] + other[at:]),
            ("delete", None),
        ]
    )
    return way, after


def names_of(chance):
    return [f"{n}-{chance.randrange(1 << 30):x}" for n in range(COUNT)]


def try_once(folder, kind, seed):
    """Break a run off, change its input, go on; return what was done and how it ended."""
    chance = random.Random(seed)
    case = Case(folder, *FORMATS[kind])
    names = names_of(chance)
    case.write(names)
    has_ended = chance.random() < 0.3
    case.run(-1 if has_ended else chance.randrange(1, COUNT))
    way, after = changed(chance, names)
    if after is None:
        case.input.unlink()
    elif way == "append":
        case.append(after[COUNT:])
    elif way == "touch":
        os.utime(case.input, (1, 1))
    else:
        case.write(after)
    before = committed(case)
    try:
        out = case.run()
    except StateError:
        assert committed(case) == before
        return way, "refused"
    except StageError as error:
        if after is not None or not isinstance(error.error, FileNotFoundError):
            raise
        return way, "refused"
    assert is_right(out, after, before), (way, seed)
    return way, "right"


def committed(case):
    """Return what the output holds; what is beyond the last checkpoint may be cut off."""
    with suppress(FileNotFoundError):
        return (case.folder / "out").read_bytes().split()
    return []


def is_right(out, after, before):
    """Tell whether the output is that of the input as it is now; that of one that is gone stays."""
    if after is None:
        return out == before[: len(out)]
    return out == [name.encode() for name in after]


@pytest.mark.parametrize("kind", FORMATS)
def test_a_changed_input_is_refused_or_right(tmp_path, kind):
    """After any change the result is that of the input as it is now, or a StateError."""
    endings = [try_once(tmp_path / str(seed), kind, seed) for seed in range(12)]
    assert {ending for _, ending in endings} == {"refused", "right"}
    refused = {way for way, ending in endings if ending == "refused"}
    assert refused.isdisjoint({"append", "touch"})


@pytest.mark.stress
@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", FORMATS)
def test_a_hundred_changes(tmp_path, kind):
    """The same a hundred times."""
    endings = []
    for seed in range(100, 200):
        endings.append(try_once(tmp_path / "case", kind, seed))
        shutil.rmtree(tmp_path / "case")
    for way in sorted({way for way, _ in endings}):
        found = [ending for it, ending in endings if it == way]
        print(kind, way, found.count("refused"), "refused", found.count("right"), "right")
