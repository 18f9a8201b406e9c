"""The store of checkpoints against a plain model, through crashes and resets."""

import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from m3.engine.state import Checkpoint, StateStore, look_at, reset
from m3.errors import StateError

MARKS = st.dictionaries(
    st.sampled_from(["a/0", "a/1", "b/0"]),
    st.none() | st.integers() | st.text(max_size=3000) | st.binary(),
)


class StateModel(RuleBasedStateMachine):
    """``last`` is the checkpoint that should be there, and None where there is no state."""

    def __init__(self):
        super().__init__()
        self.place = Path(tempfile.mkdtemp())
        self.folder = self.place / "0"
        self.last = self.store = self.key = None

    @precondition(lambda self: self.store is None)
    @rule()
    def open(self):
        self.store = StateStore(self.folder)
        assert self.store.is_new is (self.last is None)
        self.last = self.last or Checkpoint()
        assert self.key is None or self.store.key == self.key
        self.key = self.store.key

    @precondition(lambda self: self.store)
    @rule(step=st.integers(1, 3), sources=MARKS, sinks=MARKS, finished=st.booleans())
    def write(self, step, sources, sinks, finished):
        last = Checkpoint(self.last.number + step, sources, sinks, {"produced": step}, finished)
        self.store.write(last)
        self.last = last

    @precondition(lambda self: self.store)
    @rule(step=st.integers(0, 3))
    def write_an_old_one(self, step):
        with pytest.raises(StateError):
            self.store.write(Checkpoint(self.last.number - step))

    @precondition(lambda self: self.store)
    @rule()
    def write_what_is_not_plain(self):
        with pytest.raises(TypeError):
            self.store.write(Checkpoint(self.last.number + 1, {"a/0": object()}))

    @precondition(lambda self: self.store)
    @rule()
    def close(self):
        self.store.close()
        self.store = None

    @precondition(lambda self: self.store)
    @rule()
    def crash(self):
        """Go on with the files as they are on the disk right now."""
        left = self.place / str(int(self.folder.name) + 1)
        shutil.copytree(self.folder, left)
        self.store.close()
        self.store, self.folder = None, left

    @precondition(lambda self: self.store)
    @rule()
    def second_run(self):
        for use in (StateStore, reset):
            with pytest.raises(StateError, match="used by another run"):
                use(self.folder)

    @precondition(lambda self: self.store is None)
    @rule()
    def reset(self):
        assert bool(reset(self.folder)) is (self.last is not None)
        self.last = self.key = None

    @invariant()
    def look(self):
        if self.last is None:
            with pytest.raises(StateError, match="there is no state"):
                look_at(self.folder)
        else:
            view = look_at(self.folder)
            assert (view.checkpoint, view.key, bool(view.user)) == (
                *(self.last, self.key),
                self.store is not None,
            )
        assert self.store is None or self.store.checkpoint == self.last

    def teardown(self):
        if self.store:
            self.store.close()
        shutil.rmtree(self.place)


TestState = StateModel.TestCase
TestState.settings = settings(
    max_examples=60,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
