"""One region of a pool: its client, and how the service has been doing there."""

import threading
from collections.abc import Callable
from typing import Any

from m3.aws.circuit import Circuit
from m3.aws.limiter import THROTTLED, Limiter

__all__ = ("Region", "client_of", "code_of", "is_denial", "is_regional")

REFUSED = frozenset(
    {"AuthFailure", "InvalidClientTokenId", "OptInRequired", "UnrecognizedClientException"}
)
"""How services answer in a region that is not enabled for the account."""

DENIED = frozenset(
    {"AccessDenied", "AccessDeniedException", "AuthorizationError", "UnauthorizedOperation"}
)
"""How services answer who is known to them, and may not do what was asked."""


class Region:
    """
    The client of one region, made when it is first asked for.

    Args:
        name: the name of the region.
        make: makes the client.
    """

    def __init__(self, name: str, make: Callable[[str], Any]) -> None:
        self.name = name
        self.limiter = Limiter()
        self.circuit = Circuit()
        self._make = make
        self._lock = threading.Lock()
        self._made: Any = None
        self._client: Any = None
        self._is_closed = False
        self._own = threading.local()

    def client(self) -> Any:
        """
        Return the client, which threads share; where it is a resource of boto3, this thread's.

        Resources are not thread-safe; those of all threads use one client.
        """
        if self._made is None:
            with self._lock:
                if self._made is None:
                    self._make_and_watch()
        if self._client is self._made:
            return self._client
        if not hasattr(self._own, "resource"):
            self._own.resource = type(self._made)(client=self._client)
        return self._own.resource

    def close(self) -> None:
        """Close the connections of the client, also of one that is being made."""
        self._is_closed = True
        self._close_client()

    def _close_client(self) -> None:
        close = getattr(self._client, "close", None)
        if close is not None:
            close()

    def _make_and_watch(self) -> None:
        try:
            made = self._make(self.name)
        except Exception as error:
            self.circuit.failed(error)
            raise
        self.circuit.succeeded()
        self._client = client_of(made)
        events = getattr(getattr(self._client, "meta", None), "events", None)
        if events is not None:
            events.register("before-send", self._before_each_request)
            events.register("needs-retry", self._after_each_answer)
            events.register("after-call", self._after_call)
            events.register("after-call-error", self._after_error)
        self._made = made
        if self._is_closed:
            self._close_client()

    def _before_each_request(self, **_: Any) -> None:
        self.limiter.acquire()

    def _after_each_answer(self, response: Any = None, **_: Any) -> None:
        if response is None:
            return
        http, parsed = response
        if code_in(parsed) in THROTTLED or http.status_code == 429:
            self.limiter.slow_down()
        elif http.status_code < 500:
            self.limiter.succeeded()

    def _after_call(self, http_response: Any, parsed: Any, model: Any, **_: Any) -> None:
        from botocore.exceptions import ClientError

        if http_response.status_code < 300:
            self.circuit.succeeded()
            return
        error = ClientError(parsed, model.name)
        if is_regional(error):
            self.circuit.failed(error)
        else:
            self.circuit.succeeded()

    def _after_error(self, exception: Exception, **_: Any) -> None:
        if is_regional(exception):
            self.circuit.failed(exception)


def client_of(made: Any) -> Any:
    """Return the client of a resource of boto3; whatever else it is, the same."""
    from boto3.resources.base import ServiceResource

    return made.meta.client if isinstance(made, ServiceResource) else made


def code_in(answer: Any) -> str:
    """Return the code of the error in an answer of AWS, or nothing."""
    return str(answer.get("Error", {}).get("Code", ""))


def code_of(error: Exception) -> str:
    """Return the code by which AWS calls *error*; empty if it did not come from there."""
    response = getattr(error, "response", None)
    return code_in(response) if isinstance(response, dict) else ""


def is_regional(error: Exception) -> bool:
    """
    Return whether a call failed because of the region that it was sent to.

    No connection, no answer in time, an error of the server, throttling that
    outlasted the retries, and a region that is not enabled for the account are;
    what another region would answer in the same way is not.
    """
    from botocore.exceptions import ClientError, HTTPClientError
    from botocore.exceptions import ConnectionError as NoConnectionError

    if not isinstance(error, ClientError):
        return isinstance(error, (NoConnectionError, HTTPClientError))
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return status >= 500 or code_of(error) in THROTTLED | REFUSED


def is_denial(error: Exception) -> bool:
    """Return whether a service has answered that the caller may not do what was asked."""
    return code_of(error) in DENIED
