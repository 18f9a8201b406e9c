"""``python -m m3`` is the command ``m3``."""

import sys

if not sys.flags.safe_path:
    # -m puts the current directory first; the command m3 does not search it.
    del sys.path[0]

from m3.cli import main

if __name__ == "__main__":
    main()
