#!/bin/bash
# The daemon as a service: what it tells the service manager and when, the watchdog, keys from $CREDENTIALS_DIRECTORY, and the unit.
# sanitize: address
. "$(dirname "$0")/../lib.sh"
b=$TEST_TMP/backing m=$TEST_TMP/mnt said=$TEST_TMP/said
good=0
ok() { good=$((good + 1)); }
why_not() { printf '; the service manager heard: %s' "$(cat "$said")"; }
is_mounted() { grep -q " $m fuse.coffer " /proc/mounts; }
heard() { grep -qxF -- "$1" "$said"; }
count_heard() { grep -cxF -- "$1" "$said" || true; }

# Stands for the service manager: writes each line that it is told to the file, behind the sender's pid.
listen() { # SOCKET
	: >"$said"
	python3 - "$1" "$said" <<'END' &
import socket, struct, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
s.bind("\0" + sys.argv[1][1:] if sys.argv[1].startswith("@") else sys.argv[1])
out = open(sys.argv[2], "a")
print("listening", file=out, flush=True)
while True:
    data, ancillary, _, _ = s.recvmsg(4096, 256)
    pid = struct.unpack("3i", ancillary[0][2])[0]
    for line in data.decode().split("\n"):
        print(pid, line, file=out, flush=True)
END
	listener=$!
	await 30 heard listening
}
test_cleanup() { [[ -z ${listener:-} ]] || kill "$listener" 2>/dev/null || true; }
# serve SOCKET [NAME=VALUE...] -- ARGUMENT...: runs coffer as a service manager would; `main` is the daemon's pid.
serve() {
	local environment=("NOTIFY_SOCKET=$1")
	shift
	while [[ $1 != -- ]]; do
		environment+=("$1")
		shift
	done
	shift
	(exec env "WATCHDOG_PID=$BASHPID" "${environment[@]}" "$COFFER" "$@") &
	main=$!
}
ends() { # CODE
	local status=0
	wait "$main" || status=$?
	expect "$1" "$status" "exit code of the service"
}

make_volume "$b" >/dev/null
mkdir "$m"
cat >"$COFFER_CONFIG" <<END
key_poll = 1;
volumes = { vault = { backing = "$b"; mountpoint = "$m"; }; };
END

# ---- ready when the mount works, alive while it does, stopping when it is told to ----
listen "$TEST_TMP/notify"
serve "$TEST_TMP/notify" WATCHDOG_USEC=400000 -- mount -f vault
await 30 heard "$main READY=1"
is_mounted || fail "ready before it is mounted"
echo one >"$m/file"
if [[ -z ${COFFER_SANITIZER:-} ]]; then
	grep -q '^Seccomp:.2' "/proc/$main/status" || fail "the daemon is not confined"
fi
before=$(count_heard "$main WATCHDOG=1")
sleep 3
alive=$(($(count_heard "$main WATCHDOG=1") - before))
((alive >= 8)) || fail "$alive signs of life in 3 seconds; one in 0.4 is wanted, two are meant"
heard "$main STOPPING=1" && fail "stopping while it serves"
# One that hangs is silent.
kill -STOP "$main"
sleep 0.3
before=$(count_heard "$main WATCHDOG=1")
sleep 1
expect "$before" "$(count_heard "$main WATCHDOG=1")" "signs of life of a daemon that hangs"
kill -CONT "$main"
kill -TERM "$main"
ends 0
heard "$main STOPPING=1" || fail "no word of stopping"
is_mounted && fail "still mounted"
"$COFFER" status vault | grep -q 'unmounted cleanly' || fail "not clean"
expect 1 "$(count_heard "$main READY=1")" "words of being ready"
ok

# ---- unmounted by somebody else ----
serve "$TEST_TMP/notify" -- mount -f vault
await 30 heard "$main READY=1"
expect one "$(cat "$m/file")" "contents"
umount "$m"
ends 0
heard "$main STOPPING=1" || fail "no word of stopping when somebody unmounts"
heard "$main WATCHDOG=1" && fail "signs of life that nobody asked for"
ok

# ---- what is no business of the service manager's ----
serve "$TEST_TMP/notify" WATCHDOG_USEC=400000 WATCHDOG_PID=1 -- mount -f vault # another process's watchdog
await 30 heard "$main READY=1"
sleep 1
heard "$main WATCHDOG=1" && fail "another process's signs of life"
kill -TERM "$main"
ends 0
lines=$(wc -l <"$said")
serve "$TEST_TMP/notify" -- mount "$b/objects" "$m"
ends 3
serve "$TEST_TMP/notify" -- mount -f "$b/objects" "$m"
ends 3
serve "$TEST_TMP/notify" -- mount vault # in the background, for instance from another service's script
ends 0
"$COFFER" umount vault
expect "$lines" "$(wc -l <"$said")" "lines that the service manager heard"
ok
kill "$listener"

# ---- a socket outside of the file system; one where nobody listens ----
listen "@coffer-test-$$"
serve "@coffer-test-$$" -- mount -f vault
await 30 heard "$main READY=1"
kill -TERM "$main"
ends 0
kill "$listener"
listener=
serve "$TEST_TMP/nobody" -- mount -f vault 2>"$TEST_TMP/log"
await 30 is_mounted
kill -TERM "$main"
ends 0
grep -q 'hears nothing' "$TEST_TMP/log" || fail "no word of a socket where nobody listens"
ok

# ---- a key among the credentials of the service ----
mkdir -m 700 "$TEST_TMP/credentials"
openssl rand -hex 32 >"$TEST_TMP/credentials/vault.key"
chmod 400 "$TEST_TMP/credentials/vault.key"
k=$TEST_TMP/keyed
CREDENTIALS_DIRECTORY=$TEST_TMP/credentials make_volume "$k" --key credential:vault.key >/dev/null
status=0
"$COFFER" mount "$k" "$m" 2>"$TEST_TMP/log" || status=$?
expect 5 "$status" "exit code without credentials"
grep -q 'CREDENTIALS_DIRECTORY is not set' "$TEST_TMP/log" || fail "no word of the missing credentials"
listen "$TEST_TMP/notify2"
serve "$TEST_TMP/notify2" "CREDENTIALS_DIRECTORY=$TEST_TMP/credentials" -- mount -f "$k" "$m"
await 30 heard "$main READY=1"
expect credential:vault.key "$(getfattr --only-values -n user.coffer.key_source "$m")" "key source"
sleep 2.5 # it has been looked at since
"$COFFER" status "$m" | grep -q 'state *active; checked' || fail "a credential is not active: $("$COFFER" status "$m")"
revoked() { "$COFFER" status "$m" | grep -q 'state .*revoked'; }
mv "$TEST_TMP/credentials/vault.key" "$TEST_TMP/away"
await 30 revoked
mv "$TEST_TMP/away" "$TEST_TMP/credentials/vault.key"
active() { "$COFFER" status "$m" | grep -q 'state *active'; }
await 30 active
kill -TERM "$main"
ends 0
ok

# ---- the unit: as it is installed, with what the comments in it say for a key server ----
if [[ -z ${COFFER_SANITIZER:-} && -e $COFFER_BUILD/build.ninja ]] && command -v systemd-analyze >/dev/null; then
	DESTDIR=$TEST_TMP/root meson install -C "$COFFER_BUILD" --no-rebuild --skip-subprojects >/dev/null 2>&1 || fail "meson install"
	unit=$(find "$TEST_TMP/root" -name 'coffer@.service')
	mkdir -p "$TEST_TMP/units/coffer@vault.service.d"
	sed "s|^ExecStart=[^ ]*|ExecStart=$(readlink -f "$COFFER")|" "$unit" >"$TEST_TMP/units/coffer@.service"
	printf '[Unit]\nWants=network-online.target\n[Service]\nLoadCredential=vault.key:/etc/coffer/vault.key\n' \
		>"$TEST_TMP/units/coffer@vault.service.d/vault.conf"
	SYSTEMD_UNIT_PATH="$TEST_TMP/units:" systemd-analyze --man=no verify coffer@vault.service >"$TEST_TMP/log" 2>&1 ||
		fail "$(cat "$TEST_TMP/log")"
	grep coffer "$TEST_TMP/log" && fail "systemd has something to say about the unit"
	# What it runs is what was tested above.
	expect "mount -f %i" "$(sed -n 's/^ExecStart=[^ ]* //p' "$unit")" "what the unit runs"
	[[ -x $TEST_TMP/root$(sed -n 's/^ExecStart=\([^ ]*\) .*/\1/p' "$unit") ]] || fail "the unit runs what is not installed"
	grep -q '^Type=notify' "$unit" && grep -q '^WatchdogSec=' "$unit" || fail "the unit expects no word from the daemon"
	ok
fi
say "$good passed, 0 failed"
