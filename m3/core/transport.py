"""``from m3.core.transport import Transport``, as with os-m3-engine."""

from m3.stages import Transport

__all__ = ("Transport",)
