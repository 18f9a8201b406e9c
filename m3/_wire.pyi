from typing import Any, final

class UnusualError(ValueError): ...

@final
class Received:
    channel: int
    consumer_tag: str
    delivery_tag: int
    redelivered: bool
    properties: dict[str, Any]
    body: bytes
    fault: None

@final
class Confirmed:
    channel: int
    number: int
    is_multiple: bool

@final
class Frames:
    def __init__(self, error: type[Exception]) -> None: ...
    def add(self, piece: bytes) -> None: ...
    def take(self, longest: int) -> tuple[int, int, bytes] | None: ...
    def take_whole(self, longest: int, longest_body: int) -> Received | Confirmed | None: ...

@final
class Piece: ...

def acknowledgement(channel: int, number: int, with_earlier: bool) -> bytes: ...
def publication(
    channel: int,
    route: tuple[str, str, bool],
    properties: dict[str, Any],
    body: bytes,
    longest: int,
) -> bytes | None: ...
