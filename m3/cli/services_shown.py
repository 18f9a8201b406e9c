"""Services, for people and as JSON."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from m3._shown import all_masked, escaped_json
from m3.services.description import ServiceDescription

__all__ = ("as_json", "as_text")


def as_json(services: Iterable[ServiceDescription]) -> str:
    """Return all *services* as one object."""
    document = {"schema": 1, "services": [_plain(service) for service in services]}
    return escaped_json(json.dumps(all_masked(document), default=str, ensure_ascii=False))


def _plain(service: ServiceDescription) -> dict[str, Any]:
    return {
        "name": service.name,
        "class": service.service_cls,
        "max_workers": service.max_workers,
        "entrypoints": [asdict(entrypoint) for entrypoint in service.entrypoints],
        "dependencies": [
            {"name": each.name, "class": each.kind, **each.details} for each in service.dependencies
        ],
        "resources": [
            {"name": each.name, "class": each.kind, "optional": each.is_optional}
            for each in service.resources
        ],
    }


def as_text(services: Iterable[ServiceDescription]) -> Iterator[str]:
    """Iterate over the lines that tell of *services*."""
    for number, service in enumerate(services):
        if number:
            yield ""
        yield f"{service.name}  ({service.service_cls})"
        yield f"  max_workers  {service.max_workers}"
        yield from _table(
            "entrypoints",
            [(e.kind, e.method + e.signature, _details(e.trigger)) for e in service.entrypoints],
        )
        yield from _table(
            "dependencies",
            [(d.name, _class(d.kind), _details(d.details)) for d in service.dependencies],
        )
        yield from _table(
            "resources",
            [(r.name, _class(r.kind), "or None" * r.is_optional) for r in service.resources],
        )


def _table(title: str, rows: Sequence[tuple[str, str, str]]) -> Iterator[str]:
    if not rows:
        return
    yield f"  {title}"
    first, second = (max(len(row[column]) for row in rows) for column in (0, 1))
    for name, what, details in rows:
        yield f"    {name:<{first}}  {what:<{min(second, 40)}}  {details}".rstrip()


def _details(details: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{key} {' | '.join(map(str, value)) if isinstance(value, list) else value}"
        for key, value in details.items()
        if value not in (None, False, [], "")
    )


def _class(path: str) -> str:
    return path.rpartition(":")[2]
