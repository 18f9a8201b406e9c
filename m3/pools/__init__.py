"""
Backend pools: families of interchangeable implementations, of which one is chosen by its id.

The map: ``settings`` says which backends there are of each type, ``family`` gets
from there to classes, ``pool`` has what users subclass, ``mixins`` the ways in
which a backend creates itself, and ``once`` makes things once, however many
threads ask.
"""

from m3.errors import ImproperlyConfigured, InvalidBackendError, MissingSettingError
from m3.pools.mixins import DefaultBackendMixin, SingletonCreateMixin, ThreadSafeCreateMixin
from m3.pools.pool import BackendPool
from m3.pools.settings import configure, get_installed_pools

__all__ = (
    "BackendPool",
    "DefaultBackendMixin",
    "ImproperlyConfigured",
    "InvalidBackendError",
    "MissingSettingError",
    "SingletonCreateMixin",
    "ThreadSafeCreateMixin",
    "configure",
    "get_installed_pools",
)
