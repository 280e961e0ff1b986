#!/usr/bin/env python3
"""Known answers for KMIP messages, from an encoder of their own. Prints kmip.h. With --check, has PyKMIP read the requests."""
import struct
import sys


def item(tag, kind, value):
    return struct.pack(">II", tag << 8 | kind, len(value)) + value + bytes(-len(value) % 8)


def structure(tag, *items):
    return item(tag, 1, b"".join(items))


def integer(tag, value):
    return item(tag, 2, struct.pack(">i", value))


def enum(tag, value):
    return item(tag, 5, struct.pack(">I", value))


def boolean(tag, value):
    return item(tag, 6, struct.pack(">Q", value))


def text(tag, value):
    return item(tag, 7, value.encode())


def octets(tag, value):
    return item(tag, 8, value)


def version(minor):
    return structure(0x420069, integer(0x42006A, 1), integer(0x42006B, minor))


def request(minor, *operations):
    many = len(operations) > 1
    header = [version(minor), integer(0x420050, 1 << 16)]
    if many:
        header.append(boolean(0x420010, 1))
    header.append(integer(0x42000D, len(operations)))
    batch = []
    for n, (operation, payload) in enumerate(operations):
        parts = [enum(0x42005C, operation)]
        if many:
            parts.append(octets(0x420093, bytes([n + 1])))
        batch.append(structure(0x42000F, *parts, structure(0x420079, *payload)))
    return structure(0x420078, structure(0x420077, *header), *batch)


def attribute(name, value):
    return structure(0x420008, text(0x42000A, name), value)


UID = "b4faee10-aa2a-4446-8ad4-0881f3422959"
KEY = bytes(range(32))
NONCE = bytes(range(0xA0, 0xAC))
TAG = bytes(range(0xB0, 0xC0))
uid = text(0x420094, UID)
names = [text(0x42000A, n) for n in ("Object Type", "Cryptographic Algorithm", "Cryptographic Length", "State")]
attributes = (0x0B, [uid, *names])
gcm = structure(0x42002B, enum(0x420011, 9), enum(0x420028, 3), integer(0x4200CE, 16))
aad = octets(0x4200FE, b"coffer wrapped key 1")

requests = {
    "versions": request(4, (0x1E, [version(4), version(3), version(2)])),
    "locate": request(3, (0x08, [
        integer(0x42004F, 2),
        attribute("Name", structure(0x42000B, text(0x420055, "a key"), enum(0x420054, 1))),
        attribute("Object Type", enum(0x42000B, 2)),
        attribute("State", enum(0x42000B, 2))])),
    "describe": request(2, attributes),
    "get": request(2, attributes, (0x0A, [uid, enum(0x420042, 1)])),
    "encrypt": request(4, attributes, (0x1F, [uid, gcm, octets(0x4200C2, KEY), octets(0x42003D, NONCE), aad])),
    "decrypt": request(4, attributes,
                       (0x20, [uid, gcm, octets(0x4200C2, KEY), octets(0x42003D, NONCE), aad, octets(0x4200FF, TAG)])),
}

if "--check" in sys.argv:
    sys.path.pop(0)  # where this file is, whose name is the package's
    from kmip.core import enums, utils
    from kmip.core.messages import messages

    for name, message in requests.items():
        messages.RequestMessage().read(utils.BytearrayStream(message), kmip_version=enums.KMIPVersion.KMIP_1_4)
    print(len(requests), "requests read", file=sys.stderr)

print("/* clang-format off */\n/* Made by kmip.py: do not edit. */")
for name, message in requests.items():
    print(f"static const char request_{name}[] =")
    digits = message.hex()
    lines = [f'\t"{digits[i:i + 112]}"' for i in range(0, len(digits), 112)]
    print("\n".join(lines) + ";")
