"""
AWS: the clients of a service in each of its regions, as one resource.

The map: a :class:`~m3.aws.pool.ServicePool` has the clients of one service, a
:class:`~m3.aws.pool.ServiceMixinPool` has pools of several (``pool``); ``services``
names those of the usual services.  ``regions`` finds out which regions are meant
and finds one by its name; a ``region`` makes its client and watches it, with a
``limiter`` for its rate and a ``circuit`` for its failures, by which ``failover``
chooses.  ``session`` is where boto3 is.
"""

from m3.aws.pool import ServiceMixinPool, ServicePool

__all__ = ("ServiceMixinPool", "ServicePool")
