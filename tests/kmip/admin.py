#!/usr/bin/python3 -W ignore
"""What an administrator of a key server does, for tests: admin.py PORT CERT KEY CA COMMAND... [-- COMMAND...]

create NAME [BITS] prints the new key's identifier, still Pre-Active; make NAME [BITS] likewise, of an Active one; register NAME HEX
likewise, with a key of one's own; activate ID, deactivate ID, compromise ID, destroy ID.
"""
import sys

from kmip.core import enums
from kmip.pie import client, objects

port, cert, key, ca, *rest = sys.argv[1:]
masks = [enums.CryptographicUsageMask.ENCRYPT, enums.CryptographicUsageMask.DECRYPT]


def run(c, command, *args):
    if command in ("create", "make"):
        bits = int(args[1]) if len(args) > 1 else 256
        made = c.create(enums.CryptographicAlgorithm.AES, bits, name=args[0], cryptographic_usage_mask=masks)
        print(made)
        if command == "make":
            c.activate(made)
    elif command == "register":
        value = bytes.fromhex(args[1])
        print(c.register(objects.SymmetricKey(enums.CryptographicAlgorithm.AES, 8 * len(value), value, masks, args[0])))
    elif command == "activate":
        c.activate(args[0])
    elif command == "deactivate":
        c.revoke(enums.RevocationReasonCode.CESSATION_OF_OPERATION, args[0])
    elif command == "compromise":
        c.revoke(enums.RevocationReasonCode.KEY_COMPROMISE, args[0])
    elif command == "destroy":
        c.destroy(args[0])
    else:
        sys.exit("unknown command " + command)


with client.ProxyKmipClient("127.0.0.1", int(port), cert, key, ca, kmip_version=enums.KMIPVersion.KMIP_1_4,
                            config_file="/dev/null") as c:
    while rest:
        end = rest.index("--") if "--" in rest else len(rest)
        run(c, *rest[:end])
        rest = rest[end + 1:]
