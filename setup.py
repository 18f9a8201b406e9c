"""Build the compiled modules; everything else is in pyproject.toml."""

import os

from Cython.Build import cythonize
from setuptools import Extension, setup

# M3_DEBUG=1 turns Cython's safety checks and C assertions back on;
# M3_SANITIZE=address,undefined builds with those sanitizers.
DEBUG = bool(os.environ.get("M3_DEBUG"))
SANITIZE = os.environ.get("M3_SANITIZE")

MODULES = (
    "_frames",
    "_threads",
    "_parking",
    "_edge",
    "_budget",
    "_queue",
    "_records",
    "_tokens",
    "_waiting",
    "_wire",
    "_steps",
    "_order",
    "_flights",
    "_loops",
)


def flags() -> list[str]:
    """Return the compiler's flags for the switches that are set."""
    if os.name == "nt":
        return []
    chosen = ["-O0", "-g", "-UNDEBUG"] if DEBUG else ["-O3"]
    if SANITIZE:
        chosen += [f"-fsanitize={SANITIZE}", "-fno-omit-frame-pointer"]
    return chosen


setup(
    ext_modules=cythonize(
        [
            Extension(
                f"m3.{name}",
                [f"m3/{name}.pyx"],
                include_dirs=["m3"],
                depends=["m3/_sync.h", "m3/_frames.h"],
                extra_compile_args=flags(),
                extra_link_args=[f"-fsanitize={SANITIZE}"] if SANITIZE else [],
            )
            for name in MODULES
        ],
        build_dir="build/cython",
        compiler_directives={
            "language_level": 3,
            "freethreading_compatible": True,
            "boundscheck": DEBUG,
            "wraparound": DEBUG,
            "initializedcheck": DEBUG,
        },
    ),
    options={"build_ext": {"parallel": os.cpu_count()}},
)
