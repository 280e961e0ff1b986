#!/bin/bash
# What the daemon logs, and where: standard error in the foreground, else syslog, and no failure where there is none. In a mount
# namespace with a /dev of its own, so that the syslog is ours.
# sanitize: address
[[ ${COFFER_OWN_DEV:-} ]] || COFFER_OWN_DEV=yes exec unshare --mount --propagation private "$0" "$@"
. "$(dirname "$0")/../lib.sh"
b=$TEST_TMP/backing mnt=$TEST_TMP/mnt log=$TEST_TMP/syslog
good=0
ok() { good=$((good + 1)); }
logged() { # TEXT [FILE]
	local i
	for ((i = 0; i < 100; i++)); do
		! grep -q -- "$1" "${2:-$log}" || { ok && return; }
		sleep 0.05
	done
	fail "not logged: '$1', only: $(tail -n 5 "${2:-$log}")"
}
quiet() { ! grep -q -- "$1" "$log" || fail "logged: $(grep -- "$1" "$log" | head -n 1)"; }

mount -t tmpfs dev /dev
mknod -m 666 /dev/null c 1 3
mknod -m 666 /dev/zero c 1 5
mknod -m 666 /dev/random c 1 8
mknod -m 666 /dev/urandom c 1 9
mknod -m 666 /dev/fuse c 10 229
ln -s /proc/self/fd /dev/fd
mkdir -m 1777 /dev/shm

# ---- no syslog ----
make_volume "$b" >/dev/null 2>&1
mount_volume "$b" "$mnt"
mkdir "$mnt/d"
for ((i = 0; i < 100; i++)); do head -c 4096 /dev/urandom >"$mnt/d/$i"; done
"$COFFER" key lock "$mnt" 2>/dev/null
"$COFFER" key unlock "$mnt" 2>/dev/null
cat "$mnt/d/1" >/dev/null
umount_volume "$mnt"
ok

# ---- a syslog of ours ----
cat >"$TEST_TMP/syslogd.py" <<'END'
import socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind('/dev/log')
with open(sys.argv[1], 'w', buffering=1) as out:
    out.write('listening\n')
    while True:
        out.write(s.recv(65536).decode(errors='replace').rstrip('\0') + '\n')
END
/usr/bin/python3 "$TEST_TMP/syslogd.py" "$log" &
syslogd=$!
test_cleanup() { kill "$syslogd"; }
: >>"$log"
logged listening
mount_volume "$b" "$mnt"
logged "^<29>.* coffer\[$(daemon_of "$b")\]: $b is mounted on $mnt\$"
"$COFFER" key lock "$mnt" 2>"$TEST_TMP/answer"
logged '^<28>.*scope default is closed to everybody'
logged 'scope default is closed' "$TEST_TMP/answer" # who asked hears of it, too
"$COFFER" key unlock "$mnt" 2>/dev/null
umount_volume "$mnt"
logged "^<29>.*: $b is unmounted"

# Much of the same: headers that do not authenticate.
while read -r headers; do
	dd if=/dev/zero of="$headers" bs=4096 seek=10 count=80 conv=notrunc status=none
done < <(find "$b/objects" -name headers)
mount_volume "$b" "$mnt"
for ((i = 0; i < 100; i++)); do cat "$mnt/d/$i" >/dev/null 2>&1 || true; done
[[ $(grep -c '^<27>' "$log") -ge 10 ]] || fail "damage is not logged as an error: $(tail -n 3 "$log")"
[[ $(grep -c '^<27>' "$log") -le 45 ]] || fail "every damaged object has its line: $(grep -c '^<27>' "$log")"
logged 'more lines like this are left out for some seconds'
umount_volume "$mnt"
logged '^<27>.* lines were left out, the last: '

# ---- levels ----
kill "$syslogd"
wait "$syslogd" || true
rm /dev/log
/usr/bin/python3 "$TEST_TMP/syslogd.py" "$log" &
syslogd=$!
logged listening
printf 'log_level = "warning";\n' >"$COFFER_CONFIG"
mount_volume "$b" "$mnt"
"$COFFER" key lock "$mnt" 2>/dev/null
"$COFFER" key unlock "$mnt" 2>"$TEST_TMP/answer"
logged 'scope default is closed to everybody'
logged 'scope default is open' "$TEST_TMP/answer"
umount_volume "$mnt"
quiet '^<29>'
printf 'log_level = "loud";\n' >"$COFFER_CONFIG"
status=0
"$COFFER" mount "$b" "$mnt" 2>"$TEST_TMP/answer" || status=$?
expect 2 "$status" "exit code of a mount with an unknown log_level"
logged 'log_level: must be "error", "warning", "notice" or "info"' "$TEST_TMP/answer"
: >"$COFFER_CONFIG"

# ---- in the foreground ----
"$COFFER" mount -f "$b" "$mnt" 2>"$TEST_TMP/stderr" &
daemon=$!
logged "^coffer: notice: $b is mounted on $mnt\$" "$TEST_TMP/stderr"
umount_volume "$mnt"
wait "$daemon"
logged "^coffer: notice: $b is unmounted\$" "$TEST_TMP/stderr"
quiet "$b is mounted on"
say "$good passed, 0 failed"
