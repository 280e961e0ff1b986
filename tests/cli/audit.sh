#!/bin/bash
# The audit trail on real mounts, through the commands: what is recorded, and that whatever is removed, altered or cut off is found.
# sanitize: yes
. "$(dirname "$0")/../lib.sh"
b=$TEST_TMP/backing mnt=$TEST_TMP/mnt out=$TEST_TMP/out
good=0
ok() { good=$((good + 1)); }
# verify WANTED [TEXT]: the exit code of the verification, and what it says; for the volume in $b.
verify() {
	local status=0
	"$COFFER" audit verify "$b" >"$out" 2>&1 || status=$?
	[[ $status -eq $1 ]] || fail "audit verify: exit code $status instead of $1: $(cat "$out")"
	[[ -z ${2:-} ]] || grep -q -- "$2" "$out" || fail "audit verify does not say '$2': $(cat "$out")"
	ok
}
# recorded FILTER WANTED: of the last line that FILTER, a pattern, matches, the fields.
recorded() { # EVENT FIELD=VALUE...
	local event=$1 line field
	shift
	line=$("$COFFER" audit show "$b" --json 2>/dev/null | grep "\"event\":\"$event\"" | tail -n 1)
	[[ $line ]] || fail "no event $event"
	for field; do
		[[ $line == *"$field"* ]] || fail "event $event: no $field in $line"
		ok
	done
}
trail_of() { # BACKING STATE
	local id
	id=$(sed -n 's/^volume = "\(.*\)";/\1/p' "$1/coffer.volume")
	compgen -G "$2/audit/$id-*"
}
again() { # one more mount
	"$COFFER" mount "$b" "$mnt" "$@"
	"$COFFER" umount "$mnt"
}
mkdir "$mnt"
head -c 32 /dev/urandom >"$TEST_TMP/key"
chmod 600 "$TEST_TMP/key"
make_volume "$b" --key "file://$TEST_TMP/key" >"$out" 2>&1

# ---- what is recorded ----
verify 0 '2 lines'
recorded volume-created '"scope":"default"' "\"key_source\":\"file://$TEST_TMP/key\"" '"key_version":1' '"result":0' '"requester":"user","uid":0'
"$COFFER" mount "$b" "$mnt"
recorded scope-unlocked '"scope":"default"' '"outcome":"done"'
recorded volume-mounted "\"detail\":\"$mnt\"" '"result":0'
verify 0 '4 lines'
daemon=$(daemon_of "$b")
"$COFFER" umount "$mnt"
recorded volume-unmounted '"result":0' "\"requester\":\"daemon\",\"uid\":0,\"pid\":$daemon"
verify 0 '5 lines (number 1 to 5): no errors'
[[ $("$COFFER" audit show "$b" | wc -l) -eq 5 ]] || fail "audit show: not a line for each"
"$COFFER" audit show "$b" --json | python3 -c 'import json, sys; assert [json.loads(l)["number"] for l in sys.stdin] == [1, 2, 3, 4, 5]'
ok

# A wrong key, and none: the platform's key opens the trail.
mv "$TEST_TMP/key" "$TEST_TMP/right"
refused again 2>/dev/null
recorded scope-unlocked '"outcome":"No such file or directory"' '"requester":"user"'
recorded volume-mounted '"result":-2'
head -c 32 /dev/urandom >"$TEST_TMP/key"
chmod 600 "$TEST_TMP/key"
refused again 2>/dev/null
recorded scope-unlocked '"outcome":"Bad message"'
verify 0
mv "$TEST_TMP/right" "$TEST_TMP/key"

# A descriptor that was altered.
cp -p "$b/coffer.volume" "$TEST_TMP/authentic"
sed -i 's/^created = \(.*\).;$/created = \10;/; s/^clean = .*;/clean = false;/; s/^epoch = .*;/epoch = 77;/' "$b/coffer.volume"
! cmp -s "$b/coffer.volume" "$TEST_TMP/authentic" || fail "nothing was altered"
refused again 2>/dev/null
cp -p "$TEST_TMP/authentic" "$b/coffer.volume"
recorded volume-mounted '"outcome":"Structure needs cleaning"' '"detail":"the descriptor was altered"'
verify 0

# An older descriptor, accepted.
cp -p "$b/coffer.volume" "$TEST_TMP/older"
again
cp -p "$TEST_TMP/older" "$b/coffer.volume"
refused again 2>/dev/null
again -o accept 2>/dev/null
recorded pin-accepted '"detail":"an older descriptor'
verify 0

# ---- who is refused ----
"$COFFER" mount "$b" "$mnt"
chmod 755 "$TEST_TMP" "$COFFER_STATE_DIR" "$COFFER_STATE_DIR/run"
chmod 666 "$COFFER_STATE_DIR"/run/*.sock
socket=$(echo "$COFFER_STATE_DIR"/run/[0-9a-f]*.sock) # its other name goes by the mount
cat >"$TEST_TMP/ask.py" <<'END'
import os, socket, sys
s = socket.socket(socket.AF_UNIX)
os.chdir(os.path.dirname(sys.argv[1]))
s.connect(os.path.basename(sys.argv[1]))
try:
    s.sendall(sys.argv[2].encode() + b'\n')
    print(os.getpid(), s.recv(1000).decode())
except (BrokenPipeError, ConnectionResetError):
    print(os.getpid())
END
answer=$(setpriv --reuid 65534 --regid 65534 --clear-groups /usr/bin/python3 "$TEST_TMP/ask.py" "$socket" '{"verb":"status"}')
[[ $answer != *volume_id* ]] || fail "the control socket answers another user"
recorded control-refused '"requester":"user","uid":65534' "\"pid\":${answer%% *}," '"outcome":"Permission denied"'
answer=$(python3 "$TEST_TMP/ask.py" "$socket" '{"verb":"give me\nthe keys"}')
recorded control-refused '"uid":0' "\"pid\":${answer%% *}," '"detail":"give me\nthe keys"'
answer=$(python3 "$TEST_TMP/ask.py" "$socket" '{"verb":"status"}')
[[ $answer == *volume_id* ]] || fail "the control socket does not answer root"
chmod 700 "$COFFER_STATE_DIR" "$COFFER_STATE_DIR/run"
verify 0
"$COFFER" umount "$mnt"

# ---- killed: neither a cry nor a gap ----
for i in 1 2 3; do
	"$COFFER" mount "$b" "$mnt"
	kill -KILL "$(daemon_of "$b")"
	for ((n = 0; n < 200; n++)); do
		grep -q " $mnt fuse.coffer " /proc/mounts || break
		sleep 0.05
	done
	verify 0
	# While the daemon starts, which is when it writes.
	"$COFFER" mount -f "$b" "$mnt" 2>/dev/null &
	child=$!
	sleep "0.0$((i * 3))"
	kill -KILL "$child" 2>/dev/null || true
	wait "$child" 2>/dev/null || true
	for ((n = 0; n < 200; n++)); do
		grep -q " $mnt fuse.coffer " /proc/mounts || break
		sleep 0.05
	done
	verify 0
done
again
verify 0

# ---- what is done to the trail ----
dir=$(trail_of "$b" "$COFFER_STATE_DIR")
lines=$dir/000000000001.jsonl
count=$(wc -l <"$lines")
cp -p "$lines" "$TEST_TMP/lines"
cp -p "$b/coffer.audit" "$TEST_TMP/head"
put_back() {
	cp -p "$TEST_TMP/lines" "$lines"
	cp -p "$TEST_TMP/head" "$b/coffer.audit"
	verify 0
}
sed -i 5d "$lines"
verify 12 'line 5 is missing'
put_back
sed -i '5s/"uid":0/"uid":1/' "$lines"
verify 12 'line 5 of the file: was altered'
("$COFFER" audit show "$b" 2>/dev/null || true) | grep -q '^     !  {"number":5' || fail "show does not mark an altered line"
put_back
sed -i '5{h;d};6G' "$lines"
verify 12 'out of order'
put_back
sed -i '5p' "$lines"
verify 12 'repeated'
put_back
sed -i '$d' "$lines"
verify 12 "line $count is missing at the end"
put_back
truncate -s -5 "$lines"
verify 12
put_back
rm "$lines"
verify 12 "lines 1 to $count are missing at the end"
put_back
rm "$b/coffer.audit"
verify 12 'coffer.audit in the backing directory is missing'
put_back
again
cp -p "$TEST_TMP/head" "$b/coffer.audit"
verify 12 'is older than the lines'
# On a mount the daemon finds the same.
cp -p "$TEST_TMP/lines" "$lines"
"$COFFER" mount "$b" "$mnt" 2>/dev/null
sed -i 5d "$lines"
verify 12 'line 5 is missing'
"$COFFER" umount "$mnt"

# It begins anew where the administrator put the broken one away and accepts that.
mv "$dir" "$TEST_TMP/broken"
verify 12 'are missing at the end'
again -o accept 2>/dev/null
verify 0 'the mount option accept took it so'

# ---- moved to another host, by its keys and its backing directory ----
mkdir -m 700 "$TEST_TMP/state2"
cp -rp "$COFFER_STATE_DIR/keys" "$TEST_TMP/state2"
cp -rp "$b" "$TEST_TMP/moved"
COFFER_STATE_DIR=$TEST_TMP/state2 b=$TEST_TMP/moved
verify 0 'were last written on another host'
again
verify 0 'were written elsewhere'
recorded trail-begun "$b"

# ---- read-only ----
again -o ro
verify 0 'without write access to the backing directory'
again
verify 0

# ---- a limit ----
printf 'audit_keep = 0;\n' >"$COFFER_CONFIG"
again
printf 'audit_keep = -1;\n' >"$COFFER_CONFIG"
refused again 2>/dev/null
: >"$COFFER_CONFIG"

# ---- a trail that cannot be written: no mount, and a word about it ----
dir=$(trail_of "$b" "$COFFER_STATE_DIR")
mkdir "$TEST_TMP/small"
mount -t tmpfs -o size=64k small "$TEST_TMP/small"
cp -p "$dir"/* "$TEST_TMP/small"
mount --move "$TEST_TMP/small" "$dir" 2>/dev/null || mount --bind "$TEST_TMP/small" "$dir"
head -c 100000 /dev/zero >"$dir/filler" 2>/dev/null || true
status=0
for ((n = 0; n < 20 && status == 0; n++)); do # until the last page is full, too
	"$COFFER" mount "$b" "$mnt" >"$out" 2>&1 || status=$?
	! mountpoint -q "$mnt" || "$COFFER" umount "$mnt"
done
expect 1 "$status" "exit code of a mount without a trail"
grep -q 'audit trail in .* cannot be written: No space left' "$out" || fail "no word about a full disk: $(cat "$out")"
! mountpoint -q "$mnt" || fail "mounted without a trail"
rm "$dir/filler"
verify 0
again
verify 0
ok

# ---- usage ----
for arguments in "show" "frobnicate $b" "verify $b --json"; do
	status=0
	# shellcheck disable=SC2086 # words
	"$COFFER" audit $arguments >/dev/null 2>&1 || status=$?
	expect 2 "$status" "exit code of coffer audit $arguments"
	ok
done
say "$good passed, 0 failed"
