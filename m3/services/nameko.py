"""The configuration of nameko: what means the same here, and what would go unheard."""

import re
from collections.abc import Mapping
from typing import Any

from m3.errors import ConfigError

__all__ = ("bus_url", "refuse_unheard")

TLS = "write amqps:// in AMQP_URI, and what TLS needs as 'tls' in 'bus_options'"

ADVICE = {
    "AMQP_SSL": TLS,
    "HEARTBEAT": "write it as 'heartbeat' in 'bus_options'",
    "LOGIN_METHOD": "user and password are in AMQP_URI",
    "SERIALIZERS": "bodies are JSON",
    "SERVICE_CONTAINER_CLS": "give the class to ServiceRunner.add_service",
    "TRANSPORT_OPTIONS": "write what the bus takes in 'bus_options'",
}


def bus_url(config: Mapping[str, Any]) -> str:
    """Return the URL of the bus: ``AMQP_URI``, in which ``pyamqp`` is ``amqp``."""
    url = str(config.get("AMQP_URI", "memory://"))
    return ";".join(re.sub("^pyamqp://", "amqp://", part) for part in url.split(";"))


def refuse_unheard(config: Mapping[str, Any]) -> None:
    """
    Refuse a configuration that asks for what would silently not be done.

    Raises:
        ConfigError: it does; it says what to write in place of that.
    """
    for key, advice in ADVICE.items():
        if config.get(key):
            raise ConfigError(f"{key} is a key of nameko, and means nothing to m3: {advice}")
    serializers = {config.get("serializer", "json"), *config.get("ACCEPT", ["json"])}
    if serializers != {"json"}:
        raise ConfigError(
            "serializer and ACCEPT are keys of nameko; the bodies of m3's services are JSON, "
            "so they say 'json', or are left out"
        )
