"""The regions of a pool: which are meant, and the client of each by its name."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from m3._messages import closest, did_you_mean
from m3.aws.region import Region
from m3.errors import ConfigError, NotConnectedError, UnknownNameError

__all__ = ("Regions", "canonical", "listed", "meant", "meant_globally")

MOST_LISTED = 8


def canonical(name: str) -> str:
    """
    Return the name of a region as AWS writes it: ``us-west-1`` for ``us_west_1``.

    Raises:
        TypeError: it is not a string.
    """
    if not isinstance(name, str):
        raise TypeError(f"the name of a region is a string, not {name!r}")
    return name.replace("_", "-").lower()


def listed(names: Collection[str]) -> str:
    """Return *names* as a text, or how many there are of them."""
    return ", ".join(names) if len(names) <= MOST_LISTED else f"{len(names)} regions"


def meant(
    wanted: str | Iterable[str] | None, known: Mapping[str, Sequence[str]], *, strict: bool
) -> list[str]:
    """
    Return the regions that *wanted* names, each once, in its order.

    Args:
        wanted: names, partitions and patterns, or one of them; None is ``"*"``.
        known: the regions of each partition; a pattern stands for those it fits in
            the first partition where it fits any.
        strict: whether a region must be known.

    Raises:
        UnknownNameError: there is no such region.
    """
    if wanted is None:
        wanted = "*"
    words = [wanted] if isinstance(wanted, str) else wanted
    return list(
        dict.fromkeys(name for word in words for name in _named(canonical(word), known, strict))
    )


def meant_globally(
    wanted: str | Iterable[str] | None,
    known: Mapping[str, Sequence[str]],
    homes: Mapping[str, Sequence[str]],
    *,
    strict: bool,
) -> list[str]:
    """
    Return where a global service is, in the partitions of which *wanted* names anything.

    Args:
        wanted: as of :func:`meant`.
        known: the regions of each partition.
        homes: those of them where the service is.
        strict: whether a region must be known; one that is not stands for itself.

    Raises:
        UnknownNameError: there is no such region.
    """
    home_of = {name: homes[partition] for partition, names in known.items() for name in names}
    found: dict[str, None] = {}
    for name in meant(wanted, known, strict=strict):
        home = home_of.get(name, [name])
        found |= dict.fromkeys([name] if name in home else home)
    return list(found)


def _named(word: str, known: Mapping[str, Sequence[str]], strict: bool) -> Sequence[str]:
    if word in known:
        return known[word]
    for regions in known.values():
        if fitting := [name for name in regions if fnmatchcase(name, word)]:
            return fitting
    if not strict and "*" not in word:
        return [word]
    every = [name for regions in known.values() for name in regions]
    near = closest(word, every)
    raise UnknownNameError(
        f"there is no region {word!r}{did_you_mean(near) or f'; there are: {listed(every)}'}",
        name=word,
        near=tuple(near),
    )


class Regions(Mapping[str, Any]):
    """
    The clients of a pool by region: ``regions["us-west-1"]``, ``["us_west_1"]``, ``.us_west_1``.

    Each is made when it is first asked for; another attempt follows where making one failed.

    Args:
        make: makes the client of a region.
        owner: the pool, as messages name it.
    """

    def __init__(self, make: Callable[[str], Any], owner: str) -> None:
        self._make = make
        self._owner = owner
        self._regions: dict[str, Region] = {}
        self._default: str | None = None

    def __getitem__(self, name: str) -> Any:
        return self.at(name).client()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name not in self:
            raise AttributeError(f"{self!r} has no attribute {name!r}")
        return self[name]

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and canonical(name) in self._regions

    def __iter__(self) -> Iterator[str]:
        return iter(tuple(self._regions))

    def __len__(self) -> int:
        return len(self._regions)

    def get(self, name: str, default: Any = None) -> Any:
        """Return the client of a region, or *default* if the pool does not have it."""
        try:
            return self[name]
        except NotConnectedError:
            return default

    def __repr__(self) -> str:
        return f"<regions of {self._owner}: {listed(self) or 'none'}>"

    @property
    def default(self) -> Any:
        """
        The client of the default region, to which the name of another may be assigned.

        It is the one that was named as that, or the one that the environment or the
        profile names, or the only one of the pool.

        Raises:
            NotConnectedError: it is none of these.
        """
        name = self._default
        if name is None and len(self) == 1:
            name = next(iter(self))
        if name is None:
            raise NotConnectedError(
                f"{self._owner} has no default region: name one as default_region=; "
                f"it has {self._had()}"
            )
        return self[name]

    @default.setter
    def default(self, name: str) -> None:
        if canonical(name) not in self._regions:
            raise ConfigError(f"{name!r} cannot be the default: {self._owner} has {self._had()}")
        self._default = canonical(name)

    def at(self, name: str) -> Region:
        """
        Return a region.

        Raises:
            NotConnectedError: the pool does not have it.
        """
        region = self._regions.get(canonical(name))
        if region is None:
            raise NotConnectedError(
                f"{self._owner} has no connection to the region {name!r}; it has {self._had()}"
                f"{did_you_mean(closest(canonical(name), self))}"
            )
        return region

    def add(self, name: str) -> None:
        """Connect to a region, which is not asked for anything by that."""
        self._regions.setdefault(name, Region(name, self._make))

    def every(self) -> list[Region]:
        """Return all regions."""
        return list(self._regions.values())

    def renew(self) -> None:
        """Have clients made anew, without closing those there are: they are another process's."""
        self._regions = {name: Region(name, self._make) for name in self._regions}

    def forget(self) -> list[Region]:
        """Be empty; return what the regions were."""
        regions, self._regions = self._regions, {}
        return list(regions.values())

    def _had(self) -> str:
        if not self._regions:
            return "none: connect() it, set it up, or pass connect=True"
        return f"{listed(self)}; add_region() adds one"
