"""Which queues a message goes to: exchanges, and what is bound to them."""

from collections.abc import Iterable, Sequence

__all__ = ("matches", "routed")


def routed(kind: str, bindings: Iterable[tuple[str, str]], routing_key: str) -> list[str]:
    """
    Return the queues that get a message, each once.

    Args:
        kind: the type of the exchange.
        bindings: what is bound to it, as pairs of a routing key and a queue.
        routing_key: that of the message.
    """
    queues = (queue for key, queue in bindings if matches(kind, key, routing_key))
    return list(dict.fromkeys(queues))


def matches(kind: str, binding: str, routing_key: str) -> bool:
    """Return whether an exchange of that kind passes a message on by the key of a binding."""
    if kind == "fanout" or binding == routing_key:
        return True
    return kind == "topic" and _fits(_words(binding), _words(routing_key))


def _words(key: str) -> list[str]:
    return key.split(".") if key else []


def _fits(pattern: Sequence[str], words: Sequence[str]) -> bool:
    """Match as globs are matched: only the last ``#`` is ever reconsidered, so this is quick."""
    at = word = 0
    after_hash, eaten = -1, 0
    while word < len(words):
        if at < len(pattern) and pattern[at] == "#":
            at += 1
            after_hash, eaten = at, word
        elif at < len(pattern) and pattern[at] in ("*", words[word]):
            at += 1
            word += 1
        elif after_hash >= 0:
            eaten += 1
            at, word = after_hash, eaten
        else:
            return False
    return all(rest == "#" for rest in pattern[at:])
