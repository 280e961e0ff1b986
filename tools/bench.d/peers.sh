# shellcheck shell=bash
# The file systems that tools/bench compares and on which tools/acceptance can run, behind three verbs:
#   peer_create PEER BACKING     an empty volume in an empty directory
#   peer_mount PEER BACKING MNT
#   peer_umount PEER MNT         flushes everything; returns once it is gone
# Peers: native (no file system of ours at all), passthrough (libfuse's own example), gocryptfs, coffer.
# Wants: COFFER (the program), COFFER_STATE_DIR, PASSTHROUGH (the program); CREATE_OPTS are passed to coffer create, GOCRYPTFS_OPTS to gocryptfs.

peer_create() {
	local peer=$1 backing=$2
	mkdir -p "$backing"
	case $peer in
	native | passthrough) ;;
	gocryptfs)
		# The cheapest password hash: it is paid at each mount, and is no part of what is measured.
		gocryptfs -init -q -scryptn 10 -extpass 'echo bench' "$backing"
		;;
	coffer)
		# shellcheck disable=SC2086
		"$COFFER" create "$backing" ${CREATE_OPTS:-}
		;;
	esac
}

peer_mount() {
	local peer=$1 backing=$2 mnt=$3
	mkdir -p "$mnt"
	case $peer in
	native) mount --bind "$backing" "$mnt" ;;
	passthrough)
		# Without FUSE's passthrough mode, in which reads and writes never reach the daemon.
		"$PASSTHROUGH" --nopassthrough "$backing" "$mnt" >/dev/null
		;;
	gocryptfs)
		# shellcheck disable=SC2086
		gocryptfs -q -nosyslog ${GOCRYPTFS_OPTS:-} -extpass 'echo bench' "$backing" "$mnt" >/dev/null 2>&1
		;;
	coffer) "$COFFER" mount "$backing" "$mnt" -o allow_other ;;
	esac || return
	mountpoint -q "$mnt"
}

peer_umount() {
	local peer=$1 mnt=$2 i
	mountpoint -q "$mnt" || return 0
	if [ "$peer" = coffer ]; then
		"$COFFER" umount "$mnt" || return
	else
		umount "$mnt" || return
	fi
	for ((i = 0; i < 100; i++)); do
		mountpoint -q "$mnt" || return 0
		sleep 0.1
	done
	return 1
}
