#!/usr/bin/env python3
"""Known answers for what Coffer writes to disk, from a second implementation of the same rules.

Prints sealed.h. Needs python3-cryptography. The keys, nonces and contents are fixed, so the output never changes: a
difference means that the format on disk has.
"""
import hashlib
import hmac
import struct

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from cryptography.hazmat.primitives.keywrap import aes_key_wrap_with_padding

DEK = bytes(range(32))
INFRA = bytes(range(32, 64))
OBJECT, INDEX, VERSION, KIND = 0x1122334455667788, 0x123456789, 3, 2
NONCE = bytes(range(0xA0, 0xAC))
BLOCK = bytes((i * 7 + (i >> 8)) & 0xFF for i in range(4096))
RECORD = b"forty-one bytes of a record, no less, no."
XTS, XTS_GMAC, XTS_GCM = 1, 2, 3


def object_key(dek, purpose, suite, version, kind, length):
    info = b"COFK" + struct.pack("<HHQII", purpose, suite, OBJECT, version, kind)
    return HKDFExpand(hashes.SHA256(), length, info).derive(dek)


def xts(key, tweak, data):
    e = Cipher(algorithms.AES(key), modes.XTS(tweak)).encryptor()
    return e.update(data) + e.finalize()


def gcm(key, data, aad):
    sealed = AESGCM(key).encrypt(NONCE, data, aad)
    return sealed[:-16], sealed[-16:]


def position(magic, suite):
    return magic + struct.pack("<HHQQQ", 1, suite, OBJECT, INDEX, 0)


def block(suite):
    c = xts(object_key(DEK, 1, suite, 0, 0, 64), struct.pack("<QQ", INDEX, 0), BLOCK)
    if suite == XTS:
        return c, bytes(16)
    if suite == XTS_GMAC:
        return c, gcm(object_key(DEK, 2, suite, VERSION, 0, 32), b"", position(b"COFB", suite) + c)[1]
    return gcm(object_key(INFRA, 3, suite, VERSION, 0, 32), c, position(b"COFB", suite))


def record(suite):
    aad = b"COFR" + struct.pack("<HHQII", 1, suite, OBJECT, KIND, VERSION) + b"aad"
    c, tag = gcm(object_key(DEK, 4, suite, VERSION, KIND, 32), RECORD, aad)
    sealed = tag + c
    if suite == XTS_GCM:
        sealed = xts(object_key(INFRA, 5, suite, 0, KIND, 64), struct.pack("<QQ", OBJECT, KIND), sealed)
    return NONCE + sealed


def page(suite):
    key = object_key(INFRA if suite == XTS_GCM else DEK, 6, suite, VERSION, 0, 32)
    return gcm(key, b"", position(b"COFM", suite) + RECORD)[1]


def sealed_key():
    owner, ephemeral = (X25519PrivateKey.from_private_bytes(bytes(range(n, n + 32))) for n in (64, 96))
    own, public = ephemeral.public_key().public_bytes_raw(), owner.public_key().public_bytes_raw()
    kek = hmac.digest(ephemeral.exchange(owner.public_key()), b"coffer sealed key 1" + own + public, "sha256")
    return public, own + aes_key_wrap_with_padding(kek, INFRA)


print("/* clang-format off */")
print("/* Made by sealed.py: do not edit. */")
print("static const struct sealed_vector {")
print("\tconst char *block_sha256, *block_tag, *record, *page_tag;")
print("} sealed_vectors[] = {")
for suite in XTS, XTS_GMAC, XTS_GCM:
    cipher, tag = block(suite)
    print("\t[%d] = {" % suite)
    for text in hashlib.sha256(cipher).hexdigest(), tag.hex(), record(suite).hex(), page(suite).hex():
        print('\t\t"%s",' % text)
    print("\t},")
print("};")
print("static const char wrapped_key[] = \"%s\";" % aes_key_wrap_with_padding(DEK, INFRA).hex())
print("static const char wrapped_short_key[] = \"%s\";" % aes_key_wrap_with_padding(DEK, RECORD[:7]).hex())
print("static const char sealed_key_public[] = \"%s\";" % sealed_key()[0].hex())
print("static const char sealed_key[] = \"%s\";" % sealed_key()[1].hex())
