"""``from m3.core.frontend import Frontend``, as with os-m3-engine."""

from m3.stages import Frontend

__all__ = ("Frontend",)
