"""
The command line: ``m3``.

The commands are thin.  What they need is imported when they run, so that
``m3 --help`` is quick.
"""

import signal

from m3.cli.streams import hold_places

__all__ = ("main",)


def main() -> None:
    """Be the command ``m3``; the process ends here."""
    # Until a run answers Ctrl-C in its own way, it ends the process silently.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    hold_places()
    from m3.cli.commands import commands

    commands(prog_name="m3")
