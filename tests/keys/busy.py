#!/usr/bin/python3
"""busy.py work DIR          uses files in DIR in three ways until its standard input ends, checks all of them, says how much it did
   busy.py latency DIR SECS  writes 4 KiB and syncs, again and again: prints the median and the 99th percentile, in microseconds

work: a file that is written and read through a descriptor that stays open, a file that is written through a mapping, and an SQLite
database in WAL mode. No call may fail, and everything reads as it was written last."""
import hashlib
import mmap
import os
import random
import select
import sqlite3
import sys
import threading
import time

PAGE, PAGES = 4096, 700
failure = []
stop = threading.Event()


def page_of(index, version):
    seed = hashlib.sha256(b"%d %d" % (index, version)).digest()
    return seed * (PAGE // len(seed))


def with_descriptor(path):
    versions, rounds, draw = [0] * PAGES, 0, random.Random(1)
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    for i in range(PAGES):
        os.pwrite(fd, page_of(i, 0), i * PAGE)
    while not stop.is_set():
        i = draw.randrange(PAGES)
        versions[i] += 1
        if os.pwrite(fd, page_of(i, versions[i]), i * PAGE) != PAGE:
            raise OSError("a short write")
        if draw.randrange(50) == 0:
            os.fsync(fd)
        if draw.randrange(50) == 0:  # what comes from below, not from the cache
            os.fsync(fd)
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        j = draw.randrange(PAGES)
        if os.pread(fd, PAGE, j * PAGE) != page_of(j, versions[j]):
            raise ValueError(f"page {j} of the open file")
        rounds += 1
    os.fsync(fd)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    for i in range(PAGES):
        if os.pread(fd, PAGE, i * PAGE) != page_of(i, versions[i]):
            raise ValueError(f"page {i} of the open file, at the end")
    return rounds


def with_mapping(path):
    versions, rounds, draw = [0] * PAGES, 0, random.Random(2)
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    for i in range(PAGES):
        os.pwrite(fd, page_of(i, 0), i * PAGE)
    with mmap.mmap(fd, PAGES * PAGE) as m:
        while not stop.is_set():
            i, j = draw.randrange(PAGES), draw.randrange(PAGES)
            versions[i] += 1
            m[i * PAGE:(i + 1) * PAGE] = page_of(i, versions[i])
            if draw.randrange(100) == 0:
                m.flush()
                os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            if m[j * PAGE:(j + 1) * PAGE] != page_of(j, versions[j]):
                raise ValueError(f"page {j} of the mapping")
            rounds += 1
            time.sleep(0.0005)
        m.flush()
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    for i in range(PAGES):
        if os.pread(fd, PAGE, i * PAGE) != page_of(i, versions[i]):
            raise ValueError(f"page {i} of the mapped file, at the end")
    return rounds


def with_database(path):
    draw, rows = random.Random(3), 0
    db = sqlite3.connect(path, isolation_level=None)
    if db.execute("PRAGMA journal_mode=WAL").fetchone()[0] != "wal":
        raise ValueError("no WAL")
    db.execute("PRAGMA synchronous=FULL")
    db.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, body BLOB, hash BLOB)")
    while not stop.is_set():
        db.execute("BEGIN")
        for _ in range(draw.randrange(1, 20)):
            body = draw.randbytes(draw.randrange(3000))
            db.execute("INSERT INTO t VALUES (?, ?, ?)", (rows, body, hashlib.sha256(body).digest()))
            rows += 1
        db.execute("COMMIT")
        for i in [draw.randrange(rows) for _ in range(5)]:
            body, said = db.execute("SELECT body, hash FROM t WHERE id = ?", (i,)).fetchone()
            if hashlib.sha256(body).digest() != said:
                raise ValueError(f"row {i}")
    db.close()
    db = sqlite3.connect(path)
    if db.execute("PRAGMA integrity_check").fetchone()[0] != "ok":
        raise ValueError("the database's integrity")
    found = 0
    for body, said in db.execute("SELECT body, hash FROM t"):
        found += hashlib.sha256(body).digest() == said
    if found != rows:
        raise ValueError(f"{found} of {rows} rows")
    return rows


def work(directory):
    done = {}

    def run(name, function):
        try:
            done[name] = function(os.path.join(directory, name))
        except Exception as e:  # whatever it is, it is a failure
            failure.append(f"{name}: {e!r}")

    threads = [threading.Thread(target=run, args=a)
               for a in (("open", with_descriptor), ("mapped", with_mapping), ("database", with_database))]
    for t in threads:
        t.start()
    while not failure and not select.select([sys.stdin], [], [], 0.1)[0]:
        pass
    stop.set()
    for t in threads:
        t.join()
    print(" ".join(f"{name}:{count}" for name, count in sorted(done.items())), *failure)
    return 1 if failure or min(done.values()) < 20 else 0


def latency(directory, seconds):
    fd = os.open(os.path.join(directory, "latency"), os.O_RDWR | os.O_CREAT, 0o600)
    took, end, i = [], time.monotonic() + seconds, 0
    while time.monotonic() < end:
        began = time.monotonic_ns()
        os.pwrite(fd, page_of(i % 64, i), i % 64 * PAGE)
        os.fsync(fd)
        took.append((time.monotonic_ns() - began) // 1000)
        i += 1
    took.sort()
    print(took[len(took) // 2], took[len(took) * 99 // 100])
    return 0


sys.exit(work(sys.argv[2]) if sys.argv[1] == "work" else latency(sys.argv[2], float(sys.argv[3])))
