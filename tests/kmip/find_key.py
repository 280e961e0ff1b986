#!/usr/bin/python3
"""find_key.py PID HEX: how often the bytes are in the process's memory: LOCKED OTHER, in locked memory and elsewhere."""
import re
import sys

pid, key = sys.argv[1], bytes.fromhex(sys.argv[2])
count = {True: 0, False: 0}
area = None


def look(start, end, locked):
    with open(f"/proc/{pid}/mem", "rb") as memory:
        try:
            memory.seek(start)
            count[locked] += memory.read(end - start).count(key)
        except (OSError, OverflowError):
            pass  # not to be read by anybody


for line in open(f"/proc/{pid}/smaps"):
    head = re.match(r"([0-9a-f]+)-([0-9a-f]+) r", line)
    if head:
        area = int(head[1], 16), int(head[2], 16)
    elif re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
        area = None
    elif line.startswith("VmFlags:") and area:
        look(*area, " lo" in line)
print(count[True], count[False])
