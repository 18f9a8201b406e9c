"""Names of tables and columns, checked before they come near a statement."""

from collections.abc import Iterable, Sequence

from m3.errors import ConfigError, abridged

__all__ = ("checked_name", "key_columns", "refuse_twins")


def checked_name(option: str, name: object) -> str:
    """
    Return *name* if it can be that of a table or column; any text can, but for what follows.

    Raises:
        ConfigError: it is no text, is empty, has a NUL in it, or cannot be written in UTF-8.
    """
    problem = name_problem(name)
    if problem:
        raise ConfigError(f"{option}={abridged(name)}: {problem}")
    assert isinstance(name, str)
    return name


def name_problem(name: object) -> str:
    """Return why *name* cannot be that of a table or column, or an empty string if it can."""
    if not isinstance(name, str):
        return "a name in a database is text"
    if not name:
        return "a name in a database has one character at least"
    if "\0" in name:
        return "a name in a database has no NUL in it"
    if any("\ud800" <= character <= "\udfff" for character in name):
        return "a name in a database has no half surrogate pair in it"
    return ""


def key_columns(key: str | Sequence[str] | None) -> tuple[str, ...]:
    """
    Return the columns that the option ``key`` names.

    Raises:
        ConfigError: it names none, one twice, or one that cannot be.
    """
    if key is None:
        return ()
    names = (key,) if isinstance(key, str) else tuple(key)
    if not names:
        raise ConfigError("key: no column is named; leave the option out for no key")
    for name in names:
        checked_name("key", name)
    refuse_twins("key", names)
    return names


def refuse_twins(what: str, names: Iterable[str]) -> None:
    """Raise :exc:`ConfigError` if one of *names* comes twice."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ConfigError(f"{what}: there are two columns {name!r}, to be told apart by name")
        seen.add(name)
