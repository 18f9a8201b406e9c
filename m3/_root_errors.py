"""What all exceptions of m3 have above them."""

__all__ = (
    "ConfigError",
    "M3Error",
    "PlanError",
    "UnknownNameError",
)


class M3Error(Exception):
    """The root of all exceptions that m3 defines."""


class ConfigError(M3Error, ValueError):
    """A pipeline, a stage or an option was described in a way that cannot work."""


class PlanError(ConfigError):
    """A pipeline was put together in a way that cannot work; nothing was started."""


class UnknownNameError(ConfigError, LookupError):
    """
    A stage, an option or a key has no such name.

    Attributes:
        name: the name that was asked for.
        near: the known names that look like it, best first.
    """

    def __init__(self, message: str, *, name: str, near: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.name = name
        self.near = near
