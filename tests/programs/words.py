"""Print the words, the directory and some variables that a command got, as JSON."""

import json
import os
import sys

names = ("COLOUR", "SHADE", "SIDECALL_SCRATCH")
seen = {"words": sys.argv[1:], "directory": os.getcwd(), **{name: os.environ.get(name) for name in names}}
print(json.dumps(seen))
