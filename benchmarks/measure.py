"""
The process in which one measurement is made: ``python -m benchmarks.measure JSON``.

The argument names a module of this package and the keywords of its
``measure``; the answer is one line of JSON on stdout.  A process of its own for
every measurement keeps the systems out of each other's memory and threads.
"""

import importlib
import json
import platform
import sys

__all__ = ("main",)


def main(argument: str) -> None:
    """Measure what *argument* describes and print the figures."""
    request = json.loads(argument)
    module = importlib.import_module(f"benchmarks.{request['module']}")
    figures = module.measure(**request["keywords"])
    print(json.dumps({**figures, "python": platform.python_version()}))


if __name__ == "__main__":
    main(sys.argv[1])
