"""What ``m3 dlq redrive`` does."""

import json
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import TextIO

from m3.cli.console import Console
from m3.cli.endings import ExitCode, abandon_stdout, die_by, end_at_once, is_stdout_closed
from m3.cli.letters_shown import counted
from m3.cli.messages import is_closed_pipe, leaves, told
from m3.cli.options import search_in
from m3.cli.running import with_progress
from m3.cli.supervisor import Outcome, Supervisor
from m3.config import Configuration
from m3.engine import Engine
from m3.engine.dead_letter import Selection
from m3.engine.letters import DeadLetters
from m3.engine.redrive import Redriven, Round, rounds, state_in_turn
from m3.errors import ConfigError, DeadLetterError
from m3.observe import logs

__all__ = ("redrive_letters",)


def redrive_letters(
    configuration: Configuration,
    letters: DeadLetters,
    selection: Selection,
    *,
    to: str | None,
    verbosity: int,
) -> int:
    """
    Redrive letters; block until all of them have ended.

    After a signal, and when a worker hangs, the process ends here.

    Args:
        configuration: the pipeline.
        letters: the store; it is closed.
        selection: which letters.
        to: the stage at which they enter, if not each where it failed.
        verbosity: as of :func:`~m3.cli.running.run_pipeline`.

    Returns the exit code.

    Raises:
        ConfigError: the configuration has a mistake, or does not fit the letters.
    """
    options = configuration.options
    logs.configure(log_format=options.log_format, verbosity=verbosity)
    console = Console(quiet=verbosity < 0, log_format=options.log_format)
    for warning in configuration.warnings:
        console.warn(warning)
    search_in(configuration.app_dir)
    plan = configuration.plan()
    outcome = Redriven()
    start = partial(_supervised, console=console, progress=options.progress, verbosity=verbosity)
    with _report_file(options.report) as report_file, letters.redriving():
        with state_in_turn(plan, letters) as state:
            todo = rounds(plan, letters, selection, outcome, to=to, state=state)
            ending = _run_all(todo, start)
        _write_report(report_file, outcome)
    letters.close()
    return _told(console, outcome, ending, verbosity)


def _run_all(todo: Iterable[Round], start: Callable[[Engine], Outcome]) -> Outcome:
    """Run one after the other, up to the first that fails or is stopped; return how that ended."""
    for each in todo:
        try:
            ending = each.run(start)
        except DeadLetterError as error:
            ending = Outcome(error, None)
        if ending.error is not None or ending.signal is not None:
            return ending
    return Outcome(None, None)


def _supervised(
    engine: Engine, *, console: Console, progress: bool | None, verbosity: int
) -> Outcome:
    with with_progress(engine, progress, verbosity):
        return Supervisor(engine, console, stop_timeout=engine.plan.stop_timeout).run()


def _told(console: Console, outcome: Redriven, ending: Outcome, verbosity: int) -> int:
    """Tell what became of the letters, and return the exit code."""
    is_quiet_end = ending.error is not None and is_closed_pipe(ending.error) and is_stdout_closed()
    if not is_quiet_end:
        _tell_failures(console, outcome, ending, verbosity)
        console.say(summary(outcome), **counts(outcome))
    if any(report.hung for report in outcome.reports):
        end_at_once(ExitCode.FAILED)
    if ending.signal is not None:
        die_by(ending.signal)
    if is_quiet_end:
        return abandon_stdout()
    if ending.error is not None:
        return ExitCode.FAILED
    return ExitCode.INCOMPLETE if outcome.remaining else ExitCode.DELIVERED


def _tell_failures(console: Console, outcome: Redriven, ending: Outcome, verbosity: int) -> None:
    for report in outcome.reports:
        for failure in report.item_errors:
            console.warn(f"failed again: {told(failure, verbosity=verbosity - 1)}")
    if ending.error is not None:
        for error in leaves(ending.error):
            console.error(told(error, verbosity=verbosity))


def summary(outcome: Redriven) -> str:
    """Return what became of the letters in one line."""
    parts = [f"{counted(outcome.gone)} redriven", f"{outcome.failed:,} failed again"]
    if outcome.left:
        parts.append(f"{outcome.left:,} left as they were")
    if outcome.not_plain:
        parts.append(f"{outcome.not_plain:,} cannot be redriven, for they are kept as text only")
    return ", ".join(parts)


def counts(outcome: Redriven) -> dict[str, int]:
    """Return the same as numbers."""
    return {
        "redriven": outcome.gone,
        "failed_again": outcome.failed,
        "left": outcome.left,
        "not_plain": outcome.not_plain,
    }


def _report_file(path: str | None) -> AbstractContextManager[TextIO | None]:
    """Open the file for the report before the run, so that a bad path costs nothing."""
    if path is None:
        return nullcontext()
    try:
        return Path(path).open("w", encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"--report {path}: cannot be written: {error.strerror}") from error


def _write_report(file: TextIO | None, outcome: Redriven) -> None:
    if file is not None:
        runs = [report.as_dict() for report in outcome.reports]
        json.dump({"schema": 1, **counts(outcome), "runs": runs}, file, indent=2)
        file.write("\n")
