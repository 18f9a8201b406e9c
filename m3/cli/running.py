"""What ``m3 run`` does with a configuration."""

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from m3.cli.console import Console
from m3.cli.endings import (
    ExitCode,
    abandon_stdout,
    die_by,
    end_at_once,
    flush_stdout,
    is_stdout_closed,
)
from m3.cli.messages import is_about_state, is_closed_pipe, leaves, told
from m3.cli.options import search_in
from m3.cli.supervisor import Outcome, Supervisor
from m3.config import Configuration
from m3.engine import Engine
from m3.engine.delivery import Level, is_limited, level_line, levels, lowest
from m3.engine.plan import Plan
from m3.engine.report import Report
from m3.engine.validation import final_verdict
from m3.errors import ConfigError, StateError
from m3.observe import logs, progress

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
    options = configuration.options
    logs.configure(log_format=options.log_format, verbosity=verbosity)
    console = Console(quiet=verbosity < 0, log_format=options.log_format)
    for warning in configuration.warnings:
        console.warn(warning)
    try:
        search_in(configuration.app_dir)
        plan = configuration.plan()
        level = lowest(levels(plan))
        report_file = _opened(options.report)
        if from_start:
            _forget(options.state)
        engine = Engine(plan)
    except (ConfigError, StateError) as error:
        for line in str(error).splitlines():
            console.error(line)
        return ExitCode.MISTAKE
    console.say(level_line(level), **_about(level))
    with with_progress(engine, options.progress, verbosity):
        outcome = Supervisor(engine, console).run()
    report = engine.report()
    is_written = _write_report(report_file, report, console)
    code = _Ending(console, outcome, report, plan, verbosity).code()
    return code if is_written else code or ExitCode.FAILED


def _about(level: Level) -> dict[str, str]:
    """Return the level of the pipeline as fields of a line of JSON."""
    limits = {"limited_by": level.stage, "reason": level.reason} if is_limited(level) else {}
    return {"delivery": level.level, **limits}


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

    def _is_refused(self) -> bool:
        """Tell whether the kept state is all that is wrong, and nothing was done."""
        error = self.outcome.error
        return error is not None and is_about_state(error) and not self.report.produced

    def _is_quiet_end(self) -> bool:
        """Tell whether the reader of stdout has had enough, and nothing else went wrong."""
        if self.report.hung:
            return False
        if self.outcome.error is not None:
            return is_closed_pipe(self.outcome.error) and is_stdout_closed()
        try:
            flush_stdout()
        except BrokenPipeError:
            return True
        return False

    def _tell_failures(self) -> None:
        for skipped in self.report.item_errors:
            self.console.warn(f"skipped: {told(skipped, verbosity=self.verbosity - 1)}")
        errors = [*leaves(self.outcome.error)] if self.outcome.error else []
        errors += [error for error in self.report.hung if error not in errors]
        for error in errors:
            self.console.error(told(error, verbosity=self.verbosity))


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
