"""``m3 completion``, and what the options complete to."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from m3.registry import Kind

__all__ = ("completion", "registered_names")


def registered_names(kind: "Kind") -> Callable[[click.Context, click.Parameter, str], list[str]]:
    """Return what completes the beginning of the name of a stage of *kind*."""

    def complete(_: click.Context, __: click.Parameter, incomplete: str) -> list[str]:
        from m3.registry import names

        known = (registration.name for registration in names(kind))
        return [name for name in known if name.startswith(incomplete)]

    return complete


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """
    Print the completion script of a shell.

    \b
    bash: m3 completion bash > ~/.local/share/bash-completion/completions/m3
    zsh:  m3 completion zsh > a file _m3 in a folder of $fpath
    fish: m3 completion fish > ~/.config/fish/completions/m3.fish
    """  # noqa: D301  # a backspace has click keep the lines below it
    from click.shell_completion import get_completion_class

    writer = get_completion_class(shell)
    assert writer is not None, "click knows the three shells"
    root = click.get_current_context().find_root().command
    click.echo(writer(root, {}, "m3", "_M3_COMPLETE").source())
