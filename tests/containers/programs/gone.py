"""Wait until a process of this container has ended: exit 0 then, 1 if it still runs after some seconds.

The arguments are the process id and the seconds.
"""

import os
import select
import sys

try:
    descriptor = os.pidfd_open(int(sys.argv[1]))
except ProcessLookupError:
    sys.exit(0)
poll = select.poll()
poll.register(descriptor, select.POLLIN)
sys.exit(0 if poll.poll(float(sys.argv[2]) * 1000) else 1)
