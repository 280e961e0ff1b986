#!/bin/bash
# tools/quickstart ends with a mounted volume that keeps a file, and can be run again, mounted or not.
# alone: yes
. "$(dirname "$0")/../lib.sh"
backing=$TEST_TMP/backing mnt=$TEST_TMP/mnt

"$ROOT/tools/quickstart" "$backing" "$mnt" | cat # which ends only if the daemon keeps none of our files open
expect fuse.coffer "$(findmnt -nro FSTYPE --mountpoint "$mnt")" "type of the mount"
say "it works" >"$mnt/file"

"$ROOT/tools/quickstart" "$backing" "$mnt" | tee "$TEST_TMP/again"
grep -q 'mounted volume already' "$TEST_TMP/again" || fail "the second run does not say that it is mounted"
expect "it works" "$(cat "$mnt/file")" "contents after the second run"

umount_volume "$mnt"
[[ ! -e $mnt/file ]] || fail "still mounted"
"$ROOT/tools/quickstart" "$backing" "$mnt"
expect "it works" "$(cat "$mnt/file")" "contents after unmount and third run"

mkdir "$TEST_TMP/other"
mount -t tmpfs none "$TEST_TMP/other"
refused "$ROOT/tools/quickstart" "$backing" "$TEST_TMP/other"
say "mounted, mounted again, refused on a foreign mount point"
