"""Run the `sidecall` command with `python -m sidecall`."""

import sys

from sidecall.cli import main

if __name__ == "__main__":
    sys.exit(main())
