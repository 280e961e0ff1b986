#!/bin/bash
# The unit and mount units from fstab, under a real systemd that is booted for it, in namespaces of its own and on an overlay of this
# system: ready when it is mounted, a key from its credentials, started again when killed, what depends on it too, stopped by unmounting.
. "$(dirname "$0")/../lib.sh"
root=$TEST_TMP/root systemd=/lib/systemd/systemd
good=0
ok() { good=$((good + 1)); }
why_not() { printf ' (%s)' "$(systemctl status --no-pager coffer@vault 2>&1 | head -n 20)"; }
state() { systemctl show -P ActiveState "$1" || true; }
main_pid() { systemctl show -P MainPID "$1"; }
is() { [[ $(state "$1") == "$2" ]]; }
is_clean() { [[ $("$COFFER" status "$1" 2>&1) == *'unmounted cleanly'* ]]; } # whether its key is there or not

# ---- the first process of the namespaces: makes them a system, and becomes its systemd ----
boot() {
	local node
	mount -t overlay overlay -o "lowerdir=/,upperdir=$TEST_TMP/up,workdir=$TEST_TMP/work" "$root" || skip "needs overlayfs"
	mount --bind "$ROOT" "$root$ROOT"
	mount --bind "$TEST_TMP" "$root$TEST_TMP"
	mount -t proc proc "$root/proc"
	mount -t sysfs sysfs "$root/sys"
	mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup" || skip "needs cgroup2"
	mount -t tmpfs tmpfs "$root/dev"
	for node in null zero full random urandom tty fuse; do
		: >"$root/dev/$node"
		mount --bind "/dev/$node" "$root/dev/$node"
	done
	ln -s /proc/self/fd "$root/dev/fd"
	mount -t tmpfs tmpfs "$root/run"
	mount -t tmpfs tmpfs "$root/tmp"
	mount --make-rshared / # as systemd itself has it where it is the machine's; credentials come by that
	exec env -i container=coffer-test PATH="$PATH" chroot "$root" "$systemd" --log-target=null --show-status=0 --unit=coffer-test.target
}

# ---- in there ----
inside() {
	local pid dependent
	unset COFFER_STATE_DIR COFFER_CONFIG
	ln -sf "$COFFER" /usr/sbin/mount.coffer
	mkdir -p /mnt/vault /etc/coffer/keys
	chmod 700 /etc/coffer/keys
	echo 'volumes = { vault = { backing = "/srv/vault"; mountpoint = "/mnt/vault"; }; };' >/etc/coffer/coffer.conf
	(umask 077 && openssl rand -hex 32 >/etc/coffer/keys/vault.key)
	CREDENTIALS_DIRECTORY=/etc/coffer/keys "$COFFER" create /srv/vault --key credential:vault.key

	systemctl start coffer@vault
	findmnt -nro SOURCE,FSTYPE --mountpoint /mnt/vault | grep -qx 'vault fuse.coffer' || fail "started, but not mounted"
	echo one >/mnt/vault/file
	sync /mnt/vault/file
	systemctl start dependent
	ok

	# Killed: it is back by itself, and so is what depends on it, anew.
	pid=$(main_pid coffer@vault) dependent=$(main_pid dependent)
	kill -KILL "$pid"
	await 30 eval '[[ $(main_pid coffer@vault) != 0 && $(main_pid coffer@vault) != '"$pid"' ]] && is coffer@vault active && is dependent active'
	expect one "$(cat /mnt/vault/file)" "contents after the daemon was killed"
	[[ $(main_pid dependent) != "$dependent" ]] || fail "what depends on the volume was not restarted"
	ok

	# One that hangs is ended by the watchdog.
	pid=$(main_pid coffer@vault)
	kill -STOP "$pid"
	await 30 eval '[[ $(main_pid coffer@vault) != 0 && $(main_pid coffer@vault) != '"$pid"' ]] && is coffer@vault active'
	expect one "$(cat /mnt/vault/file)" "contents after the daemon hung"
	ok

	systemctl stop coffer@vault
	expect "inactive inactive" "$(state coffer@vault) $(state dependent)" "states after the stop"
	is_clean /srv/vault || fail "stopped, but not clean"
	systemctl start coffer@vault
	umount /mnt/vault
	await 30 is coffer@vault inactive
	expect success "$(systemctl show -P Result coffer@vault)" "the result when somebody unmounts"
	is_clean /srv/vault || fail "unmounted, but not clean"
	ok

	# Without its key it fails, at once.
	mv /etc/coffer/keys/vault.key /etc/coffer/keys/away
	refused systemctl start coffer@vault
	systemctl stop coffer@vault
	ok

	# ---- a mount unit, as systemd makes it of a line in fstab ----
	"$COFFER" create /srv/second >/dev/null
	mkdir /mnt/second
	printf '/srv/second /mnt/second coffer noatime,nofail 0 0\n/srv/none /mnt/none coffer nofail 0 0\n' >/etc/fstab
	systemctl daemon-reload
	systemctl start mnt-second.mount
	head -c 20000000 /dev/urandom >/mnt/second/large
	cp /mnt/second/large /srv/large
	systemctl reload mnt-second.mount
	systemctl stop mnt-second.mount
	await 30 is_clean /srv/second
	systemctl start mnt-second.mount
	cmp /mnt/second/large /srv/large || fail "contents of a mount unit"
	systemctl stop mnt-second.mount
	refused systemctl start mnt-none.mount
	systemctl start local-fs.target # whatever nofail says does not keep a system from booting
	ok
	say "$good passed, 0 failed"
}

case ${1:-} in
boot) boot ;;
inside)
	inside
	exit 0
	;;
esac
[[ $(id -u) -eq 0 ]] || skip "needs root, to boot a system"
[[ -x $systemd ]] || skip "needs systemd"
[[ -c /dev/fuse ]] || skip "needs /dev/fuse"
mkdir -p "$root" "$TEST_TMP/work" "$TEST_TMP/inside" "$TEST_TMP/up/etc/systemd/system"
units=$TEST_TMP/up/etc/systemd/system
printf '[Unit]\nWants=coffer-test.service\nDefaultDependencies=no\n' >"$units/coffer-test.target"
cat >"$units/coffer-test.service" <<END
[Unit]
DefaultDependencies=no
[Service]
Type=oneshot
Environment="TEST_TMP=$TEST_TMP/inside" "COFFER=$(readlink -f "$COFFER")" "COFFER_BUILD=$COFFER_BUILD"
ExecStart=/bin/bash "$(readlink -f "$0")" inside
ExecStopPost=/bin/systemctl --no-block exit
StandardOutput=append:$TEST_TMP/said
StandardError=append:$TEST_TMP/said
TimeoutStartSec=200
END
sed "s|^ExecStart=[^ ]*|ExecStart=$(readlink -f "$COFFER")|" "$COFFER_BUILD/etc/coffer@.service" >"$units/coffer@.service"
mkdir "$units/coffer@vault.service.d"
printf '[Service]\nLoadCredential=vault.key:/etc/coffer/keys/vault.key\nWatchdogSec=2s\nRestartSec=100ms\n' >"$units/coffer@vault.service.d/vault.conf"
printf '[Unit]\nRequires=coffer@vault.service\nAfter=coffer@vault.service\n[Service]\nExecStart=/bin/sleep 1000\n' >"$units/dependent.service"
status=0
timeout 240 unshare --mount --pid --fork --ipc --uts --cgroup --net --kill-child --propagation slave "$0" boot || status=$?
[[ $status -ne 77 ]] || exit 77
cat "$TEST_TMP/said"
tail -n 1 "$TEST_TMP/said" | grep -q '^[0-9]* passed, 0 failed$' || fail "see above"
