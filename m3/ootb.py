"""The ready-made stages under the names that os-m3-engine gave them."""

from m3.connectors.log import LogBackend, LogTransport
from m3.connectors.stdin import StdinFrontend

__all__ = ("LogBackend", "LogTransport", "StdinFrontend")
