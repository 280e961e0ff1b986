#!/bin/bash
# However a scope's keys are let go of, they are in the daemon's memory no more; and a key that was refused never stays there.
. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/common"
make_team

cp /bin/bash "$team/file"
number=$(stat -c %i "$team/file")
pid=$(daemon_of "$vault")
head -c 32 /dev/urandom >"$TEST_TMP/wrong"
needle() { say "$1 $(xxd -p -c 64 "$2")"; } # NAME FILE
{
	"$keyhole" needles "$vault" "$COFFER_STATE_DIR" team "$number"
	needle wrong "$TEST_TMP/wrong"
} >"$TEST_TMP/needles"
use() { # has everything that serves the file made and used
	dd if=/bin/bash of="$team/file" bs=4096 count=1 conv=notrunc,fsync status=none
	dd if="$team/file" of=/dev/null bs=64K iflag=direct status=none
	touch "$team/file"
}
# in_memory: the names of what is found.
in_memory() { "$keyhole" search "$pid" <"$TEST_TMP/needles" | sed -n '/ 0$/!s/ [0-9]*$//p' | paste -sd' '; }
all='KEK DEK blocks blocks-schedule tags tags-schedule header header-schedule'
found() { # WANTED AFTER_WHAT
	expect "$1" "$(in_memory)" "keys in memory $2"
}
opened() {
	use
	found "$all" "while the scope is open: so the search is known to work"
}
opened

rounds=1
[[ $COFFER_SCALE == ci ]] || rounds=20
for ((i = 0; i < rounds; i++)); do
	"$COFFER" key lock "$mnt" --scope team
	found '' "after key lock"
	"$COFFER" key unlock "$mnt" --scope team
	opened
done
"$COFFER" scope disable "$mnt" team
found '' "after scope disable"
"$COFFER" scope enable "$mnt" team
opened

# Another key in its place: nothing opens, and that one is not kept either.
"$COFFER" key lock "$mnt" --scope team
cp -p "$key" "$key.right"
cp "$TEST_TMP/wrong" "$key"
refused "$COFFER" key unlock "$mnt" --scope team 2>/dev/null
found '' "after key unlock with a wrong key"
eventually revoked state_of team # and is asked for again
sleep 1.5
found '' "after the daemon tried a wrong key"
cp -p "$key.right" "$key"
eventually active state_of team
opened

# What wraps no more is gone; what it wrapped is in use.
"$COFFER" key set "$mnt" --scope team --key platform:
found "${all#KEK }" "after key set"
sleep 1.5
found "${all#KEK }" "after key set, and the next look at the key"
refused "$COFFER" key set "$mnt" --scope team --key "file://$TEST_TMP/wrong" 2>/dev/null # others may read it
found "${all#KEK }" "after key set with a key that is refused"

"$COFFER" key set "$mnt" --scope team --key provided: <"$key"
opened
"$COFFER" key lock "$mnt" --scope team
found '' "after key lock, of a provided key"
refused "$COFFER" key provide "$mnt" --scope team <"$TEST_TMP/wrong" 2>/dev/null
found '' "after a wrong key was provided"
"$COFFER" key provide "$mnt" --scope team --ttl 3 <"$key"
opened
eventually unprovided state_of team
found '' "after the time of a provided key"
"$COFFER" key provide "$mnt" --scope team <"$key"
"$COFFER" key set "$mnt" --scope team --key "file://$key"
opened

# With the other keys sealed for it, and in the hands of somebody who asks for a new version of them.
"$COFFER" key recovery "$mnt" >/dev/null
"$COFFER" key rotate "$mnt" --scope team
"$COFFER" key lock "$mnt" --scope team
found '' "after key recovery, key rotate, and key lock"
umount_volume "$mnt"
