"""
Services: classes whose methods are called by others, by events, messages and the clock.

A service is a pipeline that :mod:`m3.engine` runs: its entrypoints are frontends,
the call of a method is the transport, the answer or the acknowledgement the
backend.  The map of this folder:

``container`` makes that pipeline, ``runner`` runs several.  ``entrypoints`` and
``queues`` are what entrypoints have in common, and ``rpc``, ``events``, ``messages``,
``timer`` (with ``cron``, ``clock`` and ``turns``), ``http`` and ``once`` are the kinds;
``direct`` is for calls within the process, and ``managed`` for threads that make them.
``context`` is one call on its way, ``invoke`` makes it.  ``dependencies`` is what methods find
on ``self``, ``extensions`` what nameko 2 calls both; ``proxies`` and ``replies`` are calls of
other services, ``standalone`` the same for programs that are none, ``stages`` for pipelines.
``submit`` makes a service of a pipeline.  ``calls`` is what it has in common with ``rpc``,
``wire`` and ``errors`` are what is sent, ``redaction`` what is not shown, ``nameko`` a
configuration that was made for that.  ``description`` tells what a service is.
"""

from m3.engine.health import Health as Health
from m3.services.clock import Clock as Clock
from m3.services.container import ServiceContainer as ServiceContainer
from m3.services.context import ServiceContext as ServiceContext
from m3.services.context import WorkerContext as WorkerContext
from m3.services.dependencies import AttributeDependency as AttributeDependency
from m3.services.dependencies import AuthToken as AuthToken
from m3.services.dependencies import Config as Config
from m3.services.dependencies import ContextDataProvider as ContextDataProvider
from m3.services.dependencies import Language as Language
from m3.services.dependencies import UserAgent as UserAgent
from m3.services.dependencies import UserId as UserId
from m3.services.entrypoints import DecoratorDependency as DecoratorDependency
from m3.services.errors import BadRequest as BadRequest
from m3.services.errors import ExtensionNotFound as ExtensionNotFound
from m3.services.errors import IncorrectSignature as IncorrectSignature
from m3.services.errors import MalformedRequest as MalformedRequest
from m3.services.errors import MethodNotFound as MethodNotFound
from m3.services.errors import RemoteError as RemoteError
from m3.services.errors import RpcTimeout as RpcTimeout
from m3.services.errors import ServiceError as ServiceError
from m3.services.errors import ServiceStateError as ServiceStateError
from m3.services.errors import ServiceStopped as ServiceStopped
from m3.services.errors import UnknownService as UnknownService
from m3.services.errors import UnserializableValueError as UnserializableValueError
from m3.services.errors import deserialize_to_instance as deserialize_to_instance
from m3.services.events import BROADCAST as BROADCAST
from m3.services.events import SERVICE_POOL as SERVICE_POOL
from m3.services.events import SINGLETON as SINGLETON
from m3.services.events import Event as Event
from m3.services.events import EventDispatcher as EventDispatcher
from m3.services.events import event_handler as event_handler
from m3.services.extensions import DependencyProvider as DependencyProvider
from m3.services.extensions import Entrypoint as Entrypoint
from m3.services.http import http as http
from m3.services.messages import Publisher as Publisher
from m3.services.messages import consume as consume
from m3.services.once import once as once
from m3.services.proxies import RpcProxy as RpcProxy
from m3.services.proxies import Service as Service
from m3.services.replies import RpcReply as RpcReply
from m3.services.rpc import rpc as rpc
from m3.services.runner import ServiceRunner as ServiceRunner
from m3.services.runner import run_services as run_services
from m3.services.standalone import ClusterRpcProxy as ClusterRpcProxy
from m3.services.standalone import ServiceRpcProxy as ServiceRpcProxy
from m3.services.standalone import event_dispatcher as event_dispatcher
from m3.services.timer import timer as timer

__all__ = (
    "BROADCAST",
    "SERVICE_POOL",
    "SINGLETON",
    "AttributeDependency",
    "AuthToken",
    "BadRequest",
    "Clock",
    "ClusterRpcProxy",
    "Config",
    "ContextDataProvider",
    "DecoratorDependency",
    "DependencyProvider",
    "Entrypoint",
    "Event",
    "EventDispatcher",
    "ExtensionNotFound",
    "Health",
    "IncorrectSignature",
    "Language",
    "MalformedRequest",
    "MethodNotFound",
    "Publisher",
    "RemoteError",
    "RpcProxy",
    "RpcReply",
    "RpcTimeout",
    "Service",
    "ServiceContainer",
    "ServiceContext",
    "ServiceError",
    "ServiceRpcProxy",
    "ServiceRunner",
    "ServiceStateError",
    "ServiceStopped",
    "UnknownService",
    "UnserializableValueError",
    "UserAgent",
    "UserId",
    "WorkerContext",
    "consume",
    "deserialize_to_instance",
    "event_dispatcher",
    "event_handler",
    "http",
    "once",
    "rpc",
    "run_services",
    "timer",
)
