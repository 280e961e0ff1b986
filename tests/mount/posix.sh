#!/bin/bash
# What POSIX asks of a local file system and a random test rarely meets, with and without the write-back cache; and a full
# disk.
# sanitize: yes
# timeout: 1800
if [[ ${1:-} == hook ]]; then # called by the driver: remount, crash
	set -euo pipefail
	if [[ $2 == crash ]]; then
		pid=$("$COFFER" status "$MNT" --json | sed -n 's/^ *"pid": \([0-9]*\),$/\1/p')
		kill -KILL "$pid"
		while [[ -e /proc/$pid/exe ]]; do sleep 0.01; done
		umount "$MNT" 2>/dev/null || true # unless the daemon's helper has done it
	else
		"$COFFER" umount "$MNT"
	fi
	exec "$COFFER" mount "$BACKING" "$MNT" -o "$MOUNT_OPTIONS"
fi
. "$(dirname "$0")/../lib.sh"
[[ $(id -u) -eq 0 ]] || skip "needs root, to act as several users"

passed=0 failed=0
export BACKING MNT=$TEST_TMP/mnt MOUNT_OPTIONS

# suite NAME BACKING MOUNT_OPTIONS CREATE_OPTIONS DRIVER_OPTION...
suite() {
	local name=$1 create=$4 log=$TEST_TMP/log ok=0 bad=1
	BACKING=$2/backing MOUNT_OPTIONS=$3
	shift 4
	say "$name:"
	# shellcheck disable=SC2086 # options are words
	make_volume "$BACKING" $create
	mount_volume "$BACKING" "$MNT" -o "$MOUNT_OPTIONS"
	chmod 777 "$MNT"
	"$COFFER_BUILD/tests/posix" "$MNT" --coffer --hook "$0 hook" "$@" | tee "$log" || true
	[[ $(tail -n 1 "$log") =~ ^([0-9]+)' passed, '([0-9]+)' failed'$ ]] && ok=${BASH_REMATCH[1]} bad=${BASH_REMATCH[2]}
	passed=$((passed + ok)) failed=$((failed + bad))
	umount_volume "$MNT"
	if "$COFFER" fsck "$BACKING" --data; then passed=$((passed + 1)); else failed=$((failed + 1)); fi
	rm -rf --one-file-system "$BACKING"
}

small=$(make_loop_fs ext4 200M)
if [[ ${COFFER_SANITIZER:-} ]]; then
	suite "default" "$TEST_TMP" allow_other "" --brief
	suite "full ext4" "$small" allow_other "" --fill full_disk
	say "$passed passed, $failed failed"
	[[ $failed -eq 0 ]]
	exit
fi
suite "default" "$TEST_TMP" allow_other ""
suite "without write-back cache, with infrastructure encryption" "$TEST_TMP" allow_other,writeback=off --infrastructure --brief
suite "full ext4" "$small" allow_other "" --fill
suite "full ext4, without write-back cache" "$small" allow_other,writeback=off "--integrity none" --fill
if command -v mkfs.xfs >/dev/null; then
	xfs=$(make_loop_fs xfs 400M)
	suite "largest file on xfs" "$xfs" allow_other "" sparse_files too_big holes
	suite "full xfs" "$xfs" allow_other --infrastructure --fill
fi
if command -v mkfs.btrfs >/dev/null; then
	btrfs=$(make_loop_fs btrfs 400M)
	suite "full btrfs" "$btrfs" allow_other "" --fill full_disk full_without_sync
fi
say "$passed passed, $failed failed"
[[ $failed -eq 0 ]]
