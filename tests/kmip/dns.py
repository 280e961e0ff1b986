#!/usr/bin/python3
"""A name server on 127.0.0.5:53 (not where libc looks by itself) that knows keys.test as 127.0.0.1 and nothing else. Ends with its parent."""
import os
import socket
import struct
import threading
import time

parent = os.getppid()
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("127.0.0.5", 53))


def answer():
    while True:
        query, address = server.recvfrom(512)
        end = query.index(b"\0", 12) + 5
        kind = struct.unpack(">H", query[end - 4:end - 2])[0]
        known = query[12:end - 4].lower() == b"\4keys\4test\0"
        found = known and kind == 1
        head = query[:2] + struct.pack(">HHHHH", 0x8180 if known else 0x8183, 1, found, 0, 0)
        record = b"\xc0\x0c" + struct.pack(">HHIH", 1, 1, 60, 4) + bytes([127, 0, 0, 1]) if found else b""
        server.sendto(head + query[12:end] + record, address)


threading.Thread(target=answer, daemon=True).start()
print("ready", flush=True)
while os.getppid() == parent:
    time.sleep(0.5)
