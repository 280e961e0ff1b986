#!/bin/bash
# Random operations on a Coffer mount and on a native xfs side by side: every answer and the whole trees are the same,
# across remounts and killed daemons.
# timeout: 14400
if [[ ${1:-} == hook ]]; then # called by the driver: remount or kill
	set -euo pipefail
	. "$(dirname "$0")/../../tools/lib.sh"
	if [[ $2 == kill ]]; then
		daemons=()
		for pid in $(daemons_below "$TEST_TMP"); do # its helper lives on, and takes the dead mount away
			grep -q helper "/proc/$pid/cmdline" || daemons+=("$pid")
		done
		[[ ${#daemons[@]} -eq 1 ]] || die "${#daemons[@]} daemons run"
		kill -KILL "${daemons[0]}"
		for ((i = 0; i < 1000; i++)); do
			[[ -e /proc/${daemons[0]} || -n $(mounts_below "$(dirname "$MNT")" | grep -xF "$MNT") ]] || break
			sleep 0.01
		done
	else
		"$COFFER" umount "$MNT"
	fi
	exec "$COFFER" mount "$BACKING" "$MNT" ${MOUNT_OPTIONS:+-o "$MOUNT_OPTIONS"}
fi
. "$(dirname "$0")/../lib.sh"
[[ $(id -u) -eq 0 ]] || skip "needs root, for the native file system's image"
command -v mkfs.xfs >/dev/null || skip "needs mkfs.xfs"

driver=$COFFER_BUILD/tests/differential
total=0

# variant NAME SEED OPS CREATE_OPTIONS MOUNT_OPTIONS
variant() {
	local name=$1 seed=$2 ops=$3 native
	export BACKING=$TEST_TMP/backing MNT=$TEST_TMP/mnt MOUNT_OPTIONS=$5
	# shellcheck disable=SC2086 # options are words
	make_volume "$BACKING" $4
	mount_volume "$BACKING" "$MNT" ${MOUNT_OPTIONS:+-o "$MOUNT_OPTIONS"}
	# What mount(8) allows must be the same on both sides.
	native=$(make_loop_fs xfs 8G "$(findmnt -no OPTIONS "$MNT" | grep -oE 'nosuid|nodev' | paste -sd, | sed 's/^$/defaults/')")
	say "$name:"
	"$driver" --seed "$seed" --ops "$ops" --coffer "$MNT" --native "$native" --hook "$0 hook" ||
		fail "$name, seed $seed"
	umount_volume "$MNT"
	"$COFFER" fsck "$BACKING" --data || fail "$name, seed $seed: fsck"
	umount "$native"
	rm -rf --one-file-system "$BACKING" "$native" "${native%.d}"
	total=$((total + ops))
}

if [[ $COFFER_SCALE == full ]]; then
	seeds="1 2 3 4 5 6" ops=50000
else
	seeds=1 ops=25000
fi
# Other seeds than the usual ones: COFFER_SEEDS="7 8 9".
for seed in ${COFFER_SEEDS:-$seeds}; do
	variant "default" "$seed" "$ops" "" ""
	variant "infrastructure encryption" "$((seed + 1000))" "$ops" "--infrastructure" ""
	variant "without integrity" "$((seed + 2000))" "$ops" "--integrity none" ""
	variant "without write-back cache" "$((seed + 3000))" "$ops" "" "writeback=off"
done
say "$total operations: equal"
