"""Runs a program and writes to a file, as JSON, what it took.

    measured.py FILE PROGRAM [ARGUMENT...]

`read_bytes` is what system calls read, from the page cache too; `peak_bytes` the most memory that was
resident at one time. Exits as the program did.
"""

import json
import resource
import subprocess
import sys


def read():
    """Bytes that this process has read, and all processes that it waited for."""
    with open("/proc/self/io") as lines:
        return int(dict(line.split(": ") for line in lines)["rchar"])


before = read()
code = subprocess.call(sys.argv[2:])
taken = {
    "read_bytes": read() - before,
    "peak_bytes": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss << 10,
}
with open(sys.argv[1], "w") as file:
    json.dump(taken, file)
sys.exit(code)
