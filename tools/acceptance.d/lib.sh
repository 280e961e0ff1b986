# shellcheck shell=bash
# What the steps of tools/acceptance share. Each step is a program that gets its volume by the environment (PEER, BACKING,
# MNT: mounted), a scratch directory on a native file system (WORK), the inputs (SHARED) and QUICK, and says on its last line
# what it found. It works in a directory of its own in MNT and leaves it there, for the last step, fsck, to check and to remove.
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=tools/lib.sh
. "$here/lib.sh"
# shellcheck source=tools/bench.d/peers.sh
. "$here/bench.d/peers.sh"
STEP=${0##*/}
ON=$MNT/$STEP

volume_up() {
	mountpoint -q "$MNT" || peer_mount "$PEER" "$BACKING" "$MNT" || die "the volume does not mount"
}

volume_down() {
	peer_umount "$PEER" "$MNT" || die "the volume does not unmount"
}

# What a user does overnight: everything forgotten that is not in the backing directory.
remount() {
	volume_down
	sync -f "$BACKING"
	echo 3 >/proc/sys/vm/drop_caches
	volume_up
}

as_nobody() {
	HOME=/nonexistent setpriv --reuid=65534 --regid=65534 --clear-groups -- "$@"
}

begin() {
	volume_up
	rm -rf --one-file-system "$ON"
	mkdir "$ON"
}

# full QUICK_VALUE FULL_VALUE
full() {
	if [[ $QUICK ]]; then say "$1"; else say "$2"; fi
}
