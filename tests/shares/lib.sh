# shellcheck shell=bash
# What the scripts in tests/shares/ share: servers of file shares, in namespaces of their own for network, mounts and processes:
# loopback only, private configuration, and when the script ends, however it ends, all that it started ends with it. A script sources
# this file first, and is then run again in there.
if [[ $$ -ne 1 ]]; then
	[[ $(id -u) -eq 0 ]] || {
		echo "skipped: needs root, to run servers"
		exit 77
	}
	exec unshare --net --mount --pid --fork --kill-child --mount-proc "$0" "$@"
fi
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
chmod 755 "$TEST_TMP"
ip link set lo up
mount -t tmpfs tmpfs /run
export MNT=$TEST_TMP/mnt BACKING=$TEST_TMP/backing

# retry SECONDS COMMAND...: until it succeeds.
retry() {
	local end=$((SECONDS + $1))
	shift
	until "$@" >/dev/null 2>&1; do
		((SECONDS < end)) || return 1
		sleep 0.05
	done
}

# add_users NAME...: users of this namespace only, with uid and gid from 20001 on.
add_users() {
	local name id=20001
	cp /etc/passwd "$TEST_TMP/passwd"
	cp /etc/group "$TEST_TMP/group"
	for name; do
		say "$name:x:$id:$id::/nonexistent:/usr/sbin/nologin" >>"$TEST_TMP/passwd"
		say "$name:x:$id:" >>"$TEST_TMP/group"
		id=$((id + 1))
	done
	mount --bind "$TEST_TMP/passwd" /etc/passwd
	mount --bind "$TEST_TMP/group" /etc/group
}

# kill_daemon: as a crash does it; what is left of the mount goes.
kill_daemon() {
	local pid
	pid=$(daemon_of "$BACKING")
	kill -KILL "$pid"
	retry 30 test ! -e "/proc/$pid/exe" || fail "the daemon does not die"
	umount -l "$MNT" 2>/dev/null || true # unless the daemon's helper has done it
}
