#!/usr/bin/python3 -W ignore
"""PyKMIP's engine and sessions behind a listener of our own: a port of its own, the TLS version that a test wants, a quick stop.

server.py DATABASE CERT KEY CA [--port N] [--tls 1.2|1.3] [--kmip 1.2,...] [--idle SECONDS] [--silent]

Prints the port, then serves until it is terminated or its parent is gone.
"""
import argparse
import copy
import logging
import os
import socket
import ssl
import threading
import time

from kmip.core import policy
from kmip.core.messages import contents
from kmip.services.server import engine, session

parser = argparse.ArgumentParser()
parser.add_argument("database", help="may be shared by several servers; the log lies beside it")
parser.add_argument("cert")
parser.add_argument("key")
parser.add_argument("ca")
parser.add_argument("--port", type=int, default=0)
parser.add_argument("--tls", choices=["1.2", "1.3"], default="1.3")
parser.add_argument("--kmip", help="the versions to know, newest first")
parser.add_argument("--idle", type=float, help="close connections on which nothing came for so long")
parser.add_argument("--silent", action="store_true", help="accept connections and say nothing")
options = parser.parse_args()
parent = os.getppid()

logging.basicConfig(filename=options.database + ".log", level=logging.INFO)
kmip = engine.KmipEngine(policies=copy.deepcopy(policy.policies), database_path=options.database)
if options.kmip:
    kmip._protocol_versions = [contents.ProtocolVersion(*map(int, v.split("."))) for v in options.kmip.split(",")]

context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(options.cert, options.key)
context.load_verify_locations(options.ca)
context.verify_mode = ssl.CERT_REQUIRED
version = ssl.TLSVersion.TLSv1_2 if options.tls == "1.2" else ssl.TLSVersion.TLSv1_3
context.minimum_version = context.maximum_version = version


def serve(connection, address):
    try:
        connection.settimeout(options.idle)
        tls = context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        one = session.KmipSession(kmip, tls, address, name="test")
        tls.do_handshake()
        while True:
            one._handle_message_loop()
    except Exception as e:  # whatever ends a session ends it for good
        logging.info("session over: %r", e)
    finally:
        tls.close()


def accept():
    silenced = []
    while True:
        connection, address = listener.accept()
        if options.silent:
            silenced.append(connection)
        else:
            threading.Thread(target=serve, args=(connection, address), daemon=True).start()


listener = socket.create_server(("127.0.0.1", options.port))
threading.Thread(target=accept, daemon=True).start()
print(listener.getsockname()[1], flush=True)
while os.getppid() == parent:
    time.sleep(0.5)
