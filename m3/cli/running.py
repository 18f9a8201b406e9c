"""What ``m3 run`` does with a configuration."""

import contextlib
import json
import os
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from m3.cli.announcing import Announcer
from m3.cli.console import Console
from m3.cli.endings import (
    ExitCode,
    abandon_stdout,
    die_by,
    end_at_once,
    flush_stdout,
    is_stdout_closed,
)
from m3.cli.messages import is_closed_pipe, is_refusal, leaves, told
from m3.cli.options import search_in
from m3.cli.supervisor import Outcome, Supervisor
from m3.config import Configuration
from m3.engine import Engine
from m3.engine.delivery import Level, is_limited, level_line, lowest
from m3.engine.health import Examiner, Health
from m3.engine.letterbox import place_of
from m3.engine.plan import Plan
from m3.engine.report import Report
from m3.engine.validation import final_verdict
from m3.errors import ConfigError, StateError
from m3.observe import logs, progress
from m3.observe.systemd import ServiceManager

__all__ = ("run_pipeline", "with_progress")


def run_pipeline(configuration: Configuration, *, from_start: bool = False, verbosity: int) -> int:
    """
    Run the pipeline; block until it has ended.

    After a signal, and when a worker hangs, the process ends here.

    Args:
        configuration: what is to run.
        from_start: forget what earlier runs have kept as state.
        verbosity: -1 quiet, 0 normal, more shows more.

    Returns:
        the exit code.
    """
    manager = ServiceManager()
    options = configuration.options
    logs.configure(log_format=options.log_format, verbosity=verbosity)
    console = Console(quiet=verbosity < 0, log_format=options.log_format)
    for warning in configuration.warnings:
        console.warn(warning)
    with contextlib.ExitStack() as around:
        try:
            search_in(configuration.app_dir)
            plan = configuration.plan()
            level = lowest(configuration.levels(plan))
            report_file = _opened(options.report)
            engine = Engine(plan)
            announcer = _announcer(engine, manager, console, options.health)
            around.enter_context(announcer)
            if from_start:
                _forget(options.state)
        except (ConfigError, StateError) as error:
            for line in str(error).splitlines():
                console.error(line)
            return ExitCode.MISTAKE
        console.say(level_line(level), **_about(level))
        around.enter_context(with_progress(engine, options.progress, verbosity))
        running = _Announced(engine, announcer)
        outcome = Supervisor(running, console, stop_timeout=plan.stop_timeout).run()
    report = engine.report()
    is_written = _write_report(report_file, report, console)
    code = _Ending(console, outcome, report, plan, verbosity).code()
    return code if is_written else code or ExitCode.FAILED


def _about(level: Level) -> dict[str, str]:
    """Return the level of the pipeline as fields of a line of JSON."""
    limits = {"limited_by": level.stage, "reason": level.reason} if is_limited(level) else {}
    return {"delivery": level.level, **limits}


def _announcer(
    engine: Engine, manager: ServiceManager, console: Console, address: str | None
) -> Announcer:
    """Return what tells how the run of *engine* is."""
    examiner = Examiner(engine)

    def examine(*, checked: bool) -> dict[str, Health]:
        return {engine.plan.name: examiner.examine(checked=checked)}

    return Announcer(examine, manager, console, address=address, parts="pipelines")


class _Announced:
    """An engine, as a supervisor runs it, that tells when it is set up and when it stops."""

    def __init__(self, engine: Engine, announcer: Announcer) -> None:
        self._engine = engine
        self._announcer = announcer

    def start(self) -> None:
        self._engine.start(block=False)
        self._announcer.ready(f"running {self._engine.plan.name}")
        self._engine.wait()

    def request_stop(self) -> None:
        self._engine.request_stop()
        self._announcer.stopping("finishing what is under way")

    def abandon(self) -> None:
        self._engine.abandon()

    def report(self) -> Report:
        return self._engine.report()


class _Ending:
    """What is said and returned at the end of a run."""

    def __init__(
        self, console: Console, outcome: Outcome, report: Report, plan: Plan, verbosity: int
    ) -> None:
        self.console = console
        self.outcome = outcome
        self.report = report
        self.plan = plan
        self.verbosity = verbosity

    def code(self) -> int:
        is_quiet_end = self._is_quiet_end()
        if not is_quiet_end:
            self._tell_failures()
            self._tell_counts()
        if self.report.hung:
            end_at_once(ExitCode.FAILED)
        if self.outcome.signal is not None:
            die_by(self.outcome.signal)
        if is_quiet_end:
            return abandon_stdout()
        if self.outcome.error is not None:
            return ExitCode.MISTAKE if self._is_refused() else ExitCode.FAILED
        return ExitCode.DELIVERED if self.report.ok else ExitCode.INCOMPLETE

    def _tell_counts(self) -> None:
        if not self._is_refused():
            self.console.say(summary(self.report, self.plan), **_counts(self.report, self.plan))
        if self.report.undone:
            self.console.say(
                f"{self.report.undone:,} of the delivered came after the last checkpoint; the next "
                "run undoes them and does them again"
            )

    def _is_refused(self) -> bool:
        """Tell whether all that is wrong is what is refused with a mistake's code, and no more."""
        error = self.outcome.error
        return error is not None and is_refusal(error) and not self.report.produced

    def _is_quiet_end(self) -> bool:
        """Tell whether the reader of stdout has had enough, and nothing else went wrong."""
        if self.report.hung:
            return False
        if self.outcome.error is not None:
            return is_closed_pipe(self.outcome.error) and is_stdout_closed()
        try:
            flush_stdout()
        except OSError as error:
            return isinstance(error, BrokenPipeError)  # others are told at the end of the command
        return False

    def _tell_failures(self) -> None:
        for failure in self.report.item_errors:
            fate = "dead letter" if failure.is_kept else "skipped"
            self.console.warn(f"{fate}: {told(failure, verbosity=self.verbosity - 1)}")
        self._tell_letters()
        errors = [*leaves(self.outcome.error)] if self.outcome.error else []
        errors += [error for error in self.report.hung if error not in errors]
        for error in errors:
            self.console.error(told(error, verbosity=self.verbosity))

    def _tell_letters(self) -> None:
        """Say where the items are that became dead letters."""
        count, place = self.report.dead_lettered, place_of(self.plan)
        if count and place is not None:
            items = "1 item is" if count == 1 else f"{count:,} items are"
            look = shlex.join(("m3", "dlq", "ls", str(place)))
            self.console.warn(f"{items} kept as dead letters; to list them: {look}")


def summary(report: Report, plan: Plan) -> str:
    """Return the run in one line."""
    counts = ", ".join(f"{count:,} {name}" for name, count in _counts(report, plan).items())
    done = report.produced - report.in_flight - report.abandoned
    speed = done / report.wall if report.wall else 0.0
    return f"{report.name}: {counts} in {report.wall:.2f} s ({speed:,.0f} items/s)"


def _counts(report: Report, plan: Plan) -> dict[str, int]:
    names = ["produced", "delivered", "dropped", "failed", "abandoned"]
    if report.dead_lettered or any(final_verdict(spec) == "dead_letter" for spec in plan):
        names.insert(3, "dead_lettered")
    return {name: getattr(report, name) for name in names}


def _forget(state: str | None) -> None:
    """Take away the checkpoints in the folder *state*."""
    if state is None:
        raise ConfigError("--from-start: there is no state to forget; give --state DIR")
    from m3.engine.state import reset

    reset(state)


def _opened(path: str | None) -> TextIO | None:
    """Open the file for the report before the run, so that a bad path costs nothing."""
    if path is None:
        return None
    try:
        return Path(path).open("w", encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"--report {path}: cannot be written: {error.strerror}") from error


def _write_report(file: TextIO | None, report: Report, console: Console) -> bool:
    """Write the report, if one is wanted; where that cannot be done, say so and return false."""
    if file is None:
        return True
    try:
        with file:
            json.dump(report.as_dict(), file, indent=2)
            file.write("\n")
    except OSError as error:
        console.error(f"--report {file.name}: cannot be written: {error.strerror}")
        return False
    return True


@contextlib.contextmanager
def with_progress(engine: Engine, said: bool | None, verbosity: int) -> Iterator[None]:
    """Show the progress of *engine* in the block, if that was *said* or disturbs nothing."""
    if not _wants_progress(said, engine.plan, verbosity):
        yield
        return
    with progress.Progress(engine.report, progress.painter_for_stderr()):
        yield


def _wants_progress(said: bool | None, plan: Plan, verbosity: int) -> bool:
    """Tell whether to show progress: as said, else where it disturbs nothing."""
    if said is not None:
        return said
    return (
        verbosity >= 0
        and os.isatty(2)
        and progress.is_rich_installed()
        and not (os.isatty(1) and any(spec.name == "stdout" for spec in plan.backends))
    )
