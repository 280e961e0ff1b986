#!/bin/bash
# Changing keys on a live mount: every source, daemons killed on the way, provided keys, recovery, and who may do it.
# sanitize: yes
. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/common"
make_team --infrastructure

head -c 2000000 /dev/urandom >"$TEST_TMP/content"
cp "$TEST_TMP/content" "$team/file"
cp "$TEST_TMP/content" "$mnt/other/file"
whole() {
	cmp "$team/file" "$TEST_TMP/content" && cmp "$mnt/other/file" "$TEST_TMP/content" || fail "content changed: $1"
}
again() {
	umount_volume "$mnt"
	mount_volume "$vault" "$mnt"
}
source_of() { "$COFFER" key show "$mnt" --scope team --json | sed -n 's/^ *"key_source": "\(.*\)",\?$/\1/p'; }

# No data is touched: the files below stay what they are.
sync
sleep 6
fingerprint() { find "$vault/objects" -type f -printf '%p %s %T@ %i\n' | sort | sha256sum; }
before=$(fingerprint)
elsewhere=$TEST_TMP/elsewhere/new.key # nowhere that the confined daemon may look
new_key "$elsewhere"
for uri in platform: "file://$key" "file://$elsewhere" platform: "file://$elsewhere"; do
	"$COFFER" key set "$mnt" --scope team --key "$uri"
	expect "$uri" "$(source_of)" "the key source"
	whole "$uri"
done
"$COFFER" key rotate "$mnt"
"$COFFER" key rotate "$mnt" --infrastructure
expect "$before" "$(fingerprint)" "files below, after changes of keys"
again
whole "after a mount"

# The new key counts, although its folder was not known when the daemon was confined; the old one does not.
rm "$key"
mv "$elsewhere" "$elsewhere.away"
eventually revoked state_of team
denied cat "$team/file"
mv "$elsewhere.away" "$elsewhere"
eventually active state_of team
whole "restored"
# The old key is asked first.
mv "$elsewhere" "$elsewhere.away"
refused "$COFFER" key set "$mnt" --scope team --key platform:
mv "$elsewhere.away" "$elsewhere"
eventually active state_of team
whole "restored again"

# Killed on the way: the old key or the new one, and no question asked by the next mount.
rounds=8
[[ $COFFER_SCALE == ci ]] || rounds=100
outcomes=
for ((i = 0; i < rounds; i++)); do
	uri=platform:
	((i % 2)) && uri=file://$elsewhere
	pid=$(daemon_of "$vault")
	"$COFFER" key set "$mnt" --scope team --key "$uri" >/dev/null 2>&1 &
	change=$!
	sleep "0.0$((i * 7 % 10))"
	kill -KILL "$pid"
	wait "$change" || true
	"$COFFER" umount "$mnt" >/dev/null 2>&1 || true
	eventually '' daemon_of "$vault" || true
	mount_volume "$vault" "$mnt" || fail "not mounted after a kill in round $i"
	whole "round $i"
	outcomes+=$([[ $(source_of) == "$uri" ]] && echo new || echo old)' '
done
echo "outcomes: $outcomes"
for ((i = 0; i < rounds / 2; i++)); do
	pid=$(daemon_of "$vault")
	"$COFFER" key rotate "$mnt" --scope default >/dev/null 2>&1 &
	change=$!
	sleep "0.0$((i * 5 % 10))"
	kill -KILL "$pid"
	wait "$change" || true
	"$COFFER" umount "$mnt" >/dev/null 2>&1 || true
	mount_volume "$vault" "$mnt" || fail "not mounted after a kill while rotating, round $i"
	whole "rotation $i"
done

# A provided key: only its fingerprint is kept.
head -c 32 /dev/urandom >"$TEST_TMP/provided"
head -c 32 /dev/urandom >"$TEST_TMP/wrong"
"$COFFER" key set "$mnt" --scope team --key provided: <"$TEST_TMP/provided"
whole "provided"
again
expect unprovided "$(state_of team)" "a provided key after a mount"
denied ls "$team"
cmp "$mnt/other/file" "$TEST_TMP/content"
refused "$COFFER" key provide "$mnt" --scope team <"$TEST_TMP/wrong"
denied ls "$team"
"$COFFER" key provide "$mnt" --scope team <"$TEST_TMP/provided"
whole "provided again"
"$COFFER" key lock "$mnt" --scope team
denied cat "$team/file"
xxd -p -c 64 "$TEST_TMP/provided" | "$COFFER" key provide "$mnt" --scope team --ttl 2
"$COFFER" key rotate "$mnt" --scope team # which gives it no more time
whole "provided for a time"
eventually unprovided state_of team
denied cat "$team/file"
base64 <"$TEST_TMP/provided" | "$COFFER" key provide "$mnt" --scope team
whole "in base64"
# What is removed while its key is not there, but is open, goes when it is closed.
echo "on its own" >"$mnt/other/single"
"$COFFER" scope assign "$mnt/other/single" team
exec {open}<"$mnt/other/single"
"$COFFER" key lock "$mnt" --scope team
rm -f "$mnt/other/single"
"$COFFER" key provide "$mnt" --scope team <"$TEST_TMP/provided"
expect "on its own" "$(cat <&"$open")" "what was removed while it was locked, and is open"
exec {open}<&-
nameless() { "$COFFER" fsck "$mnt" | grep -c 'have no name'; }
eventually 0 nameless
digits=$(xxd -p -c 64 "$TEST_TMP/provided")
! grep -rqF "$digits" "$vault/coffer.volume" "$COFFER_STATE_DIR" || fail "a provided key is on disk"
"$COFFER" key set "$mnt" --scope team --key platform:

# Only root and the daemon's user are answered.
chmod 755 "$TEST_TMP" "$COFFER_STATE_DIR" "$COFFER_STATE_DIR/run"
chmod 666 "$COFFER_STATE_DIR"/run/*.sock # so that it is the daemon that says no
as_nobody() { setpriv --reuid 65534 --regid 65534 --clear-groups env COFFER_STATE_DIR="$COFFER_STATE_DIR" "$@"; }
not_answered() { # ARGUMENT...
	local said
	if said=$(as_nobody "$COFFER" "$@" 2>&1); then fail "somebody else was answered: $*"; fi
	[[ $said == *'gave no answer'* ]] || fail "$*: $said"
}
for verb in lock unlock rotate recovery show; do
	not_answered key "$verb" "$mnt" --scope team
done
not_answered scope disable "$mnt" team
not_answered scope list "$mnt"
expect active "$(state_of team)" "the state after what others asked for"
whole "after what others asked for"

# Recovery, where the state directory and the key file are gone.
"$COFFER" key set "$mnt" --scope team --key "file://$elsewhere"
"$COFFER" key recovery "$mnt" >"$TEST_TMP/first-paper"
"$COFFER" key recovery "$mnt" >"$TEST_TMP/paper"
expect 4 "$(wc -l <"$TEST_TMP/paper")" "lines of a recovery key"
umount_volume "$mnt"
rm -rf "$COFFER_STATE_DIR" "$elsewhere"
mkdir -m 700 "$COFFER_STATE_DIR"
refused "$COFFER" mount "$vault" "$mnt"
refused "$COFFER" mount "$vault" "$mnt" -o recovery <"$TEST_TMP/first-paper"
typo=$(sed '2s/^\(.\)./\1x/' "$TEST_TMP/paper")
refused "$COFFER" mount "$vault" "$mnt" -o recovery <<<"$typo"
"$COFFER" mount "$vault" "$mnt" -o recovery <"$TEST_TMP/paper"
expect recovered "$(state_of team)" "a scope that was recovered"
whole "recovered"
"$COFFER" key set "$mnt" --key platform:
# A key that is taken away afterwards is not made up for by the recovery key.
new_key "$elsewhere"
"$COFFER" key set "$mnt" --scope team --key "file://$elsewhere"
mv "$elsewhere" "$elsewhere.away"
eventually revoked state_of team
sleep 2.5
expect revoked "$(state_of team)" "a scope that was recovered, and whose new key was taken away"
refused "$COFFER" key unlock "$mnt" --scope team
denied ls "$team"
mv "$elsewhere.away" "$elsewhere"
eventually active state_of team
"$COFFER" key set "$mnt" --scope team --key platform:
expect active "$(state_of team)" "a scope with a key source again"
again
whole "after recovery"
umount_volume "$mnt"
"$COFFER" fsck "$vault" --data

# The volume's own scope may be the provided one.
make_volume "$TEST_TMP/second" --key provided: <"$TEST_TMP/provided"
mount_volume "$TEST_TMP/second" "$mnt"
denied ls "$mnt"
refused "$COFFER" key provide "$mnt" <"$TEST_TMP/wrong"
"$COFFER" key provide "$mnt" <"$TEST_TMP/provided"
echo text >"$mnt/file"
umount_volume "$mnt"
mount_volume "$TEST_TMP/second" "$mnt"
denied cat "$mnt/file"
"$COFFER" key provide "$mnt" <"$TEST_TMP/provided"
expect text "$(cat "$mnt/file")" "a file under a provided key"
umount_volume "$mnt"
