#!/bin/bash
# NFS-Ganesha exports a mount to clients of NFSv3 and v4, which go on when it is mounted again or its daemon is killed.
# timeout: 600
. "$(dirname "$0")/lib.sh"
command -v ganesha.nfsd >/dev/null || skip "NFS-Ganesha is not installed"
[[ -x $COFFER_BUILD/tests/nfs ]] || skip "built without libnfs, or with a version that the test does not know"
good=0
mkdir -p "$TEST_TMP/ganesha" /run/rpcbind /run/ganesha
mount --bind "$TEST_TMP/ganesha" /var/lib/nfs

# configure NFSV4_PARAMETERS
configure() {
	cat >"$TEST_TMP/ganesha.conf" <<-END
		NFS_CORE_PARAM { Protocols = 3, 4; Enable_NLM = false; Enable_RQUOTA = false; }
		NFSV4 { $1 Only_Numeric_Owners = true; RecoveryBackend = fs; RecoveryRoot = $TEST_TMP/ganesha; }
		EXPORT {
			Export_Id = 1; Path = $MNT; Pseudo = /vault; Filesystem_Id = 1.1;
			Protocols = 3, 4; Transports = TCP; SecType = sys; Access_Type = RW; Squash = No_root_squash;
			FSAL { Name = VFS; fsid_type = Major64; }
		}
	END
}
# No time of grace, in which clients take back what they had open, and nobody opens anything else.
configure "Graceless = true;"

start_ganesha() {
	ganesha.nfsd -F -C -f "$TEST_TMP/ganesha.conf" -L "$TEST_TMP/ganesha.log" -p "$TEST_TMP/ganesha.pid" &
	ganesha=$!
	say "$ganesha" >"$TEST_TMP/ganesha.id"
	retry 30 rpcinfo -t 127.0.0.1 100003 3 && retry 30 rpcinfo -t 127.0.0.1 100005 3 && retry 30 rpcinfo -t 127.0.0.1 100003 4 || {
		tail -n 20 "$TEST_TMP/ganesha.log"
		fail "Ganesha does not start"
	}
}
stop_ganesha() {
	kill "$(cat "$TEST_TMP/ganesha.id")"
	retry 30 eval "! kill -0 $(cat "$TEST_TMP/ganesha.id")" || fail "Ganesha does not end"
}
# What a client's command may have in its middle: the server mounts the volume again, as one does for an update ...
restart() {
	stop_ganesha
	umount_volume "$MNT"
	mount_volume "$BACKING" "$MNT"
	start_ganesha
}
# ... or the daemon is killed while Ganesha has files open. It is of no use then until it is restarted, too.
crash() {
	kill_daemon
	mount_volume "$BACKING" "$MNT"
	stop_ganesha
	start_ganesha
}
# The same, with a time of grace, and what was open is elsewhere.
crash_and_move() {
	kill_daemon
	mount_volume "$BACKING" "$MNT"
	mv "$MNT/held" "$MNT/many/held-elsewhere"
	sleep 1 # Ganesha tells its runs apart by the second in which they began
	configure "Lease_Lifetime = 20; Grace_Period = 30;"
	stop_ganesha
	start_ganesha
}
# Another volume in the same place, with objects of the same numbers.
swap() {
	stop_ganesha
	umount_volume "$MNT"
	mount_volume "$BACKING-other" "$MNT"
	start_ganesha
}
export -f fail say retry daemons_below daemon_of kill_daemon mount_volume umount_volume start_ganesha stop_ganesha configure restart crash crash_and_move swap

# client VERSION [--hook ...] COMMAND...
client() {
	local version=$1 export=/vault
	shift
	[[ $version == 4 ]] || export=$MNT
	say "NFSv$version: $*"
	timeout 120 "$COFFER_BUILD/tests/nfs" "$version" "$export" "$@" || fail "NFSv$version: $*"
	good=$((good + 1))
}

make_volume "$BACKING"
mount_volume "$BACKING" "$MNT"
rpcbind -w -f &
start_ganesha

# A tree to copy: small and larger files, directories, links.
tree=$TEST_TMP/tree
mkdir "$tree"
cp -a "$ROOT/src" "$ROOT/tests/mount" "$tree/"
ln -s ../src/store "$tree/mount/link"
for size in 0 1 4095 4096 4097 700000; do head -c "$size" /dev/urandom >"$tree/$size"; done
mkdir "$MNT/many"
(cd "$MNT/many" && seq 0 9999 | xargs touch)

for version in 3 4; do
	for middle in restart crash; do
		hook=(--hook "$middle")
		client "$version" "${hook[@]}" put "$tree" "/tree-$version-$middle"
		diff -r --no-dereference "$tree" "$MNT/tree-$version-$middle" || fail "what was put over NFSv$version is not what was sent"
		client "$version" "${hook[@]}" get "/tree-$version-$middle" "$TEST_TMP/got-$version-$middle"
		diff -r --no-dereference "$tree" "$TEST_TMP/got-$version-$middle" || fail "what was got over NFSv$version is not what was sent"
		client "$version" "${hook[@]}" append "/log-$version-$middle" 60
		expect "$(seq -f '%099.0f' 0 59 | md5sum)" "$(md5sum <"$MNT/log-$version-$middle")" "lines appended over NFSv$version"
		client "$version" "${hook[@]}" names "/names-$version-$middle"
		client "$version" "${hook[@]}" special "/special-$version-$middle"
		client "$version" "${hook[@]}" list many 10000
	done
done
# A client of version 3 has nothing to lose: it waits for the server and goes on.
client 3 --hook restart --meanwhile put "$tree" /tree-meanwhile
diff -r --no-dereference "$tree" "$MNT/tree-meanwhile" || fail "what was put while the server was restarted is not what was sent"
client 3 --hook restart --meanwhile append /log-meanwhile 60
expect "$(seq -f '%099.0f' 0 59 | md5sum)" "$(md5sum <"$MNT/log-meanwhile")" "lines appended while the server was restarted"

# One of version 4 takes back what it had open, and is told to send again what was not committed.
client 4 --hook crash_and_move reclaim held
expect 1000 "$(tr -cd r <"$MNT/many/held-elsewhere" | wc -c)" "what a client wrote again"
configure "Graceless = true;"
stop_ganesha
start_ganesha

# What is removed below is gone for clients, too.
rm -r "$MNT"/tree-* "$MNT/many"
client 3 names /last
stop_ganesha
umount_volume "$MNT"
"$COFFER" fsck "$BACKING" --data

# Handles of one volume's objects never reach another's.
make_volume "$BACKING-other"
mount_volume "$BACKING-other" "$MNT"
for i in {1..10}; do say "$i" >"$MNT/$i"; done
umount_volume "$MNT"
make_volume "$BACKING-third"
mount_volume "$BACKING-third" "$MNT"
start_ganesha
client 3 --hook swap stale /held
stop_ganesha
numbers=$(find "$MNT" -type f -printf '%i\n')
umount_volume "$MNT"
mount_volume "$BACKING-third" "$MNT"
grep -qx "$(stat -c %i "$MNT/held")" <<<"$numbers" || fail "no object of the number that the client held"
umount_volume "$MNT"
say "$good passed, 0 failed"
