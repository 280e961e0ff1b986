#!/bin/bash
# A key that is followed by its name is rotated on the server, the old one deactivated before Coffer looks: nothing is lost.
. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/lib.sh"
mnt=$TEST_TMP/mnt b=
mkdir "$mnt"
start_server server
admin_port=$port

field() { "$COFFER" key show "$mnt" --json | sed -n "s/^ *\"$1\": \"\?\([^\",]*\)\"\?,\?\$/\1/p"; }
# eventually WANTED FIELD: the command key show says that within some seconds.
eventually() {
	local i
	for i in {1..300}; do
		[[ $(field "$2") != "$1" ]] || return 0
		sleep 0.1
	done
	fail "$2 of $b: wanted '$1', got '$(field "$2")' after $i looks"
}
audited() { "$COFFER" audit show "$b" --json 2>/dev/null | grep -cF "\"event\":\"$1\"" || true; }
# make NAME OPTIONS: sets b, old and new; a volume whose key is found by its name, and one key more of that name, not yet Active.
make() {
	b=$TEST_TMP/$1
	{
		read -r old
		read -r new
	} < <(admin make "$1" -- create "$1")
	"$COFFER" create "$b" --key "kmip://localhost:$port/?name=$1${2:-}" >/dev/null 2>&1
	mount_volume "$b" "$mnt"
	say "$1" >"$mnt/file"
}
# rotate: as fast as an administrator can, and between two looks of the daemon.
rotate() { # [HOW]
	local pid
	pid=$(daemon_of "$b") && kill -STOP "$pid"
	admin activate "$new" -- "${1:-deactivate}" "$old"
	[[ ! $pid ]] || kill -CONT "$pid"
}
whole() { expect "${b##*/}" "$(cat "$mnt/file")" "contents of $b"; }
# went_over: the new key wraps, the use of the old one is on record, and the old one is not needed any more.
went_over() {
	eventually "$new" key_id
	eventually active key_state
	whole
	[[ $(audited deactivated-key-used) -gt 0 ]] || fail "$b: the use of a deactivated key was not recorded"
	admin destroy "$old"
	umount_volume "$mnt"
	mount_volume "$b" "$mnt"
	whole
	expect active "$(field key_state)" "state of $b when only the new key is left"
	umount_volume "$mnt"
	"$COFFER" audit verify "$b" >/dev/null
}

make mounted
expect 0 "$(audited deactivated-key-used)" "uses of deactivated keys before there is one"
rotate
went_over

make unmounted
umount_volume "$mnt"
rotate
mount_volume "$b" "$mnt"
went_over

make locked
"$COFFER" key lock "$mnt"
rotate
"$COFFER" key unlock "$mnt"
went_over

# Twice, before anybody looked.
make twice
umount_volume "$mnt"
rotate
middle=$new
new=$(new_key twice)
admin deactivate "$middle"
mount_volume "$b" "$mnt"
went_over

# A rotation as it should be: the old key is not used once it is deactivated.
make orderly
admin activate "$new"
eventually unreachable key_state # two keys have the name
admin deactivate "$old"
eventually "$new" key_id
whole
umount_volume "$mnt"

# ---- what stays refused ----
refused_after() { # WHAT
	umount_volume "$mnt"
	if "$COFFER" mount "$b" "$mnt" >"$TEST_TMP/out" 2>&1; then fail "$b is mounted, though $1"; fi
}
make compromised
rotate compromise
eventually revoked key_state
! cat "$mnt/file" 2>/dev/null || fail "a compromised key is still used"
refused_after "its key is compromised"
grep -q "not Active but Compromised" "$TEST_TMP/out" || fail "does not say why: $(cat "$TEST_TMP/out")"

make destroyed
umount_volume "$mnt"
rotate
admin destroy "$old"
refused "$COFFER" mount "$b" "$mnt" 2>/dev/null

make alone # no other key of the name is Active
admin deactivate "$old"
eventually revoked key_state
refused_after "no key of the name is Active"

make several
umount_volume "$mnt"
third=$(new_key several)
rotate
refused "$COFFER" mount "$b" "$mnt" 2>/dev/null # which one is meant?
admin deactivate "$third"
mount_volume "$b" "$mnt"
went_over

# By its identifier a key has no successor.
old=$(new_key fixed) new=$(admin create fixed) b=$TEST_TMP/fixed
"$COFFER" create "$b" --key "kmip://localhost:$port/$old"
rotate
refused "$COFFER" mount "$b" "$mnt" 2>/dev/null

# First none, then the next one.
make later
umount_volume "$mnt"
admin deactivate "$old"
refused "$COFFER" mount "$b" "$mnt" 2>/dev/null
admin activate "$new"
mount_volume "$b" "$mnt"
went_over

# ---- mode=remote: the server decides; PyKMIP's does not decrypt with a deactivated key ----
make remote "&mode=remote"
rotate
went_over # what was unwrapped is in memory

make away "&mode=remote"
umount_volume "$mnt"
rotate
refused "$COFFER" mount "$b" "$mnt" 2>"$TEST_TMP/out"
grep -q "decrypts nothing with it any more" "$TEST_TMP/out" || fail "does not say why: $(cat "$TEST_TMP/out")"

say "rotated while mounted, unmounted and locked; compromised and destroyed keys stay refused"
