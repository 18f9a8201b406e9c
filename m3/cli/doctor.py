"""``m3 doctor``."""

from typing import TYPE_CHECKING, Any

import click

from m3._shown import safe
from m3.cli.options import pipeline_options, planned

if TYPE_CHECKING:
    from m3.engine.checkup import Finding

__all__ = ("doctor",)


@click.command()
@pipeline_options
def doctor(file: str | None, **parameters: Any) -> None:
    """
    Try each resource that `m3 run` would use with the same arguments.

    Each is started with what it needs, asked for its health, and closed; no stage is made.
    The exit code is 1 if one of them fails.
    """
    from m3.engine.checkup import check_up

    _, plan = planned(file, parameters)
    findings = []
    for finding in check_up(plan):
        findings.append(finding)
        click.echo(safe(told(finding)))
    failed = sum(bool(finding.errors) for finding in findings)
    if failed:
        raise SystemExit(1)
    if not findings:
        click.echo("no stage asks for a resource")


def told(finding: "Finding") -> str:
    """Return the lines about one resource."""
    verdict = "fails" if finding.errors else "works"
    lines = [f"{finding.name} ({finding.kind}): {verdict}, after {finding.seconds:.3f} s"]
    lines += [f"  {line}" for error in finding.errors for line in str(error).splitlines()]
    return "\n".join(lines)
