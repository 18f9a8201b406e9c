"""F5: the state of a killed run is damaged: refused, or gone on with to the exact result."""

import random
import shutil

import pytest

pytestmark = pytest.mark.once

COUNT = 3000
REFUSED = 2
FILES = ("state.db", "state.db-wal", "lock")


@pytest.fixture(scope="module")
def killed(tmp_path_factory, make_runner):
    """A folder in which a run was killed on its way, with its options."""
    runner = make_runner(tmp_path_factory.mktemp("killed"))
    (runner.folder / "in").write_bytes(b"".join(b"%d\n" % n for n in range(COUNT)))
    process = runner.start(*options())
    runner.wait_for_checkpoints(process, 3)
    process.kill()
    process.communicate()
    written = (runner.folder / "out").read_bytes()
    assert 0 < written.count(b"\n") < COUNT
    return runner


def options():
    words = ["--frontend", "file", "--transport", "faulty:Slow", "--backend", "file"]
    words += ["--set", "frontend.path=in", "--set", "backend.path=out", "--state", "state"]
    return [
        *words,
        "--set",
        "checkpoint_interval=0.01",
        "--set",
        "transport.seconds=0.0002",
        "--set",
        "queue_size=16",
    ]


def damages(data, seed, count):
    """Return so many ways in which *data* can be damaged: bytes changed, cut off, zeroed."""
    chance = random.Random(seed)
    for _ in range(count):
        at = chance.randrange(len(data))
        way = chance.choice(("flip", "cut", "zero"))
        if way == "flip":
            yield data[:at] + bytes([data[at] ^ 1 << chance.randrange(8)]) + data[at + 1 :]
        elif way == "cut":
            yield data[:at]
        else:
            yield data[:at] + bytes(len(data[at : at + 512])) + data[at + 512 :]


def go_on(make_runner, killed, folder, name, data):
    """Go on with a copy of the folder in which a file of the state is *data*; return the code."""
    shutil.copytree(killed.folder, folder, ignore=shutil.ignore_patterns("app"))
    runner = make_runner(folder)
    (folder / "state" / name).write_bytes(data)
    before = (folder / "out").read_bytes()
    ended = runner.run(*options())
    after = (folder / "out").read_bytes()
    if ended.code == REFUSED:
        assert after == before
        assert "m3 state reset" in ended.said or "use another folder" in ended.said
    else:
        assert ended.code == 0, ended.said
        assert after == (folder / "in").read_bytes()
    assert "Traceback" not in ended.said
    return ended.code


def check(make_runner, killed, tmp_path, name, seed, count):
    data = (killed.folder / "state" / name).read_bytes()
    codes = [
        go_on(make_runner, killed, tmp_path / str(number), name, damaged)
        for number, damaged in enumerate(damages(data, seed, count))
    ]
    assert REFUSED in codes
    return codes


@pytest.mark.parametrize("name", FILES)
def test_a_damaged_state_is_refused_or_right(make_runner, killed, tmp_path, name):
    """A changed or cut-off file of the state: exit code 2 and nothing is touched, or exact."""
    check(make_runner, killed, tmp_path, name, seed=1, count=5)


@pytest.mark.stress
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", FILES)
def test_many_damages(make_runner, killed, tmp_path, name):
    """The same a hundred times."""
    codes = check(make_runner, killed, tmp_path, name, seed=2, count=100)
    print(name, codes.count(REFUSED), "refused,", codes.count(0), "right")


def test_the_state_itself_is_whole(make_runner, killed, tmp_path):
    """What a killed run has left, undamaged, is gone on with to the exact result."""
    lock = (killed.folder / "state" / "lock").read_bytes()
    assert go_on(make_runner, killed, tmp_path / "same", "lock", lock) == 0
