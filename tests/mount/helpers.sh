# shellcheck shell=bash
# use_helpers: gives mount(8) the helpers that an installation has, where it looks for them. To be called in a mount namespace of the
# script's own (unshare --mount --propagation slave), in which no copies of other tests' mounts stay: those would never be over.
use_helpers() {
	local name sbin
	umount -a -l -t fuse.coffer
	sbin=$(readlink -f /sbin)
	mkdir "$TEST_TMP/helpers"
	for name in mount.coffer mount.fuse.coffer; do
		ln -s "$(readlink -f "$COFFER")" "$TEST_TMP/helpers/$name"
	done
	mount --make-rprivate /
	mkdir -p /run/mount
	mount -t tmpfs tmpfs /run/mount # what mount(8) notes down
	mount -t overlay -o "lowerdir=$TEST_TMP/helpers:$sbin" overlay "$sbin" || skip "needs overlayfs, to lend mount(8) its helpers"
}
