"""What the options of a stage name, functions and exceptions, and the policy they make."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, cast

from m3.config.origins import KeyPath
from m3.config.schema import RetryConfig, is_path
from m3.errors import ConfigError
from m3.policies import ErrorPolicy, Retry, Verdict
from m3.registry import load

__all__ = ("error_policy", "imported_at", "named")


def named(values: Mapping[str, Any]) -> Iterator[tuple[KeyPath, str]]:
    """
    Iterate over what the options of a stage name, as paths to import.

    Each comes with its key inside of the options.  What is malformed is left
    out, since the schema complains of it.
    """
    policy = values.get("on_error")
    table = policy if isinstance(policy, dict) else {}
    errors = table.get("on")
    said: dict[KeyPath, Any] = {
        ("sizeof",): values.get("sizeof"),
        ("on_error",): policy,
        ("on_error", "then"): table.get("then"),
    }
    yield from ((key, str(name)) for key, name in said.items() if is_path(name))
    for index, name in enumerate(errors if isinstance(errors, list) else ()):
        if isinstance(name, str):
            yield ("on_error", "on", index), name if is_path(name) else f"builtins:{name}"


def imported_at(key: KeyPath, name: str) -> Any:
    """
    Return what the option at *key* names.

    Raises:
        ConfigError: it cannot be imported, or is no exception where one is wanted.
    """
    value = load(name)
    is_exception = isinstance(value, type) and issubclass(value, Exception)
    if "on" in key and not is_exception:
        raise ConfigError(f"{name} is no exception, of which a retry could be worth it")
    return value


def error_policy(said: object, imported: Mapping[KeyPath, Any]) -> ErrorPolicy | None:
    """
    Return the policy that ``on_error`` says, or :data:`None` if it says nothing.

    Args:
        said: a verdict, the path of a function, or a table.
        imported: what was imported of what it names, by its key.

    Raises:
        PlanError: what was imported is not what it should be.
    """
    if not isinstance(said, RetryConfig):
        return cast("ErrorPolicy | None", imported.get(("on_error",), said))
    retry = Retry(
        attempts=said.attempts,
        backoff=said.backoff,
        then=imported.get(("on_error", "then"), cast("Verdict", said.then)),
    )
    errors = tuple(imported["on_error", "on", index] for index in range(len(said.on)))
    return replace(retry, on=errors) if errors else retry
