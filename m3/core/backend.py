"""``from m3.core.backend import Backend``, as with os-m3-engine."""

from m3.stages import Backend

__all__ = ("Backend",)
