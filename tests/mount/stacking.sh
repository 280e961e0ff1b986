#!/bin/bash
# File systems on a volume, and a volume on others: loop devices, gocryptfs, a volume in a volume, overlayfs below and above, bind mounts, namespaces.
# timeout: 600
. "$(dirname "$0")/../lib.sh"
b=$TEST_TMP/backing mnt=$TEST_TMP/mnt
manifest=$COFFER_BUILD/tests/manifest
good=0
ok() { good=$((good + 1)); }
same() { # FROM TO: the two trees
	diff <("$manifest" "$1") <("$manifest" "$2") >"$TEST_TMP/diff" || fail "$1 and $2 differ: $(head -c 2000 "$TEST_TMP/diff")"
	ok
}
anew() { # unmounts and mounts the volume, after its check; gocryptfs may still be ending
	local tries
	for tries in {1..200}; do
		! umount_volume "$mnt" 2>"$TEST_TMP/out" || break
		[[ $tries -lt 200 ]] || fail "not unmounted: $(cat "$TEST_TMP/out")"
		sleep 0.1
	done
	"$COFFER" fsck "$b" --data >"$TEST_TMP/out" || fail "fsck: $(cat "$TEST_TMP/out")"
	mount_volume "$b" "$mnt"
}
# Without what a volume or an overlay keeps for itself.
tree=$TEST_TMP/tree
mkdir -p "$tree/dir/deep"
for i in {1..150}; do head -c $((i * i * 10)) /dev/urandom >"$tree/dir/f$i"; done
head -c 20000000 /dev/urandom >"$tree/large"
ln "$tree/large" "$tree/dir/deep/link"
ln -s ../large "$tree/dir/symlink"
truncate -s 50M "$tree/sparse"
echo end >>"$tree/sparse"
chown 1000:1000 "$tree/dir/f1"
setfattr -n user.name -v value "$tree/dir/f2"
setfacl -m u:1234:rw "$tree/dir/f3"

make_volume "$b"
mount_volume "$b" "$mnt"

# ---- a file system in a file, on a loop device ----
truncate -s 300M "$mnt/image"
mkfs.ext4 -q -F "$mnt/image"
mkdir "$TEST_TMP/loop"
for options in loop loop,ro; do
	mount -o "$options" "$mnt/image" "$TEST_TMP/loop"
	[[ $options != loop ]] || cp -a "$tree" "$TEST_TMP/loop/tree"
	same "$tree" "$TEST_TMP/loop/tree"
	[[ $options != loop ]] || rm -r "$TEST_TMP/loop/lost+found"
	umount "$TEST_TMP/loop"
	e2fsck -fn "$mnt/image" >"$TEST_TMP/out" 2>&1 || fail "the file system in a file: $(cat "$TEST_TMP/out")"
	anew
done
device=$(losetup --find --show --direct-io=on "$mnt/image")
mount "$device" "$TEST_TMP/loop"
same "$tree" "$TEST_TMP/loop/tree"
rm -r "$TEST_TMP/loop/tree"
fstrim "$TEST_TMP/loop" # punches holes in the file
umount "$TEST_TMP/loop"
losetup -d "$device"
[[ $(du -m "$mnt/image" | cut -f1) -lt 60 ]] || fail "what was trimmed in a loop device takes room: $(du -m "$mnt/image")"
anew

# ---- gocryptfs in a volume ----
mkdir "$mnt/cipher" "$TEST_TMP/plain"
echo password >"$TEST_TMP/password"
gocryptfs -q -init -scryptn 10 -passfile "$TEST_TMP/password" "$mnt/cipher"
gocryptfs -q -passfile "$TEST_TMP/password" "$mnt/cipher" "$TEST_TMP/plain"
cp -a "$tree/dir" "$TEST_TMP/plain/dir"
(cd "$TEST_TMP/plain" && mv dir/f4 dir/moved && rm dir/f5)
umount "$TEST_TMP/plain"
anew
gocryptfs -q -passfile "$TEST_TMP/password" "$mnt/cipher" "$TEST_TMP/plain"
for i in 1 100 150; do cmp "$tree/dir/f$i" "$TEST_TMP/plain/dir/f$i" || fail "a file in gocryptfs in a volume"; done
cmp "$tree/dir/f4" "$TEST_TMP/plain/dir/moved" || fail "a file that was moved in gocryptfs in a volume"
[[ ! -e $TEST_TMP/plain/dir/f5 ]] || fail "a file that was removed in gocryptfs in a volume"
umount "$TEST_TMP/plain"
ok

# ---- a volume in a volume; the inner one frozen, and killed ----
make_volume "$mnt/inner"
mount_volume "$mnt/inner" "$TEST_TMP/inner"
cp -a "$tree" "$TEST_TMP/inner/tree"
same "$tree" "$TEST_TMP/inner/tree"
"$COFFER" freeze "$TEST_TMP/inner"
cp -a "$mnt/inner" "$mnt/copy"
"$COFFER" thaw "$TEST_TMP/inner"
echo late >"$TEST_TMP/inner/late"
sync "$TEST_TMP/inner/late"
kill -KILL "$(daemon_of "$mnt/inner")"
for _ in {1..200}; do # its helper takes the dead mount away, and ends
	if ! grep -q " $TEST_TMP/inner " /proc/mounts && umount_volume "$mnt" 2>/dev/null; then break; fi
	sleep 0.1
done
mount_volume "$b" "$mnt"
mount_volume "$mnt/inner" "$TEST_TMP/inner"
same "$tree" "$TEST_TMP/inner/tree"
expect late "$(cat "$TEST_TMP/inner/late")" "what was synced in a volume in a volume"
refused "$COFFER" umount "$mnt" # in use
umount_volume "$TEST_TMP/inner"
mount_volume "$mnt/copy" "$TEST_TMP/inner" -o ro
same "$tree" "$TEST_TMP/inner/tree"
umount_volume "$TEST_TMP/inner"
"$COFFER" fsck "$mnt/inner" --data >/dev/null || fail "fsck of a volume in a volume"
rm -r "$mnt/inner" "$mnt/copy" "$mnt/cipher"

# ---- overlayfs: the same done to an overlay on ext4 and to ones with the volume below, above, and both, gives the same ----
native=$(make_loop_fs ext4 400M)
overlay() { # NAME LOWER UPPER
	mkdir -p "$TEST_TMP/$1" "$3/$1.up" "$3/$1.work"
	mount -t overlay "$1" -o "lowerdir=$2,upperdir=$3/$1.up,workdir=$3/$1.work" "$TEST_TMP/$1"
}
change_overlay() {
	cd "$1"
	echo changed >>dir/f1
	rm dir/f2 large
	mv dir/f3 dir/moved
	mv dir/f6 f6
	mkdir dir/f2 # where a file was
	echo in >dir/f2/in
	rm -r dir/deep
	mkdir dir/deep # hides what is below
	echo new >dir/deep/new
	ln dir/f7 dir/f7-link
	ln -s f8 dir/f8-link
	mkdir new
	mv new renamed
	touch -d 2001-01-01 renamed dir/f9 sparse
	chmod 600 dir/f10
	chown 5:6 dir/f11
	setfattr -n user.other -v more dir/f12
	mv dir/f13 dir/f14 # over another of the layer below
	truncate -s 10 dir/f15
	dd if=/dev/zero of=dir/f120 bs=4096 seek=3 count=1 conv=notrunc status=none
	mkfifo fifo
	find . -exec touch -h -d 2010-10-10 {} + # what differs is when it was done
	cd "$TEST_TMP"
}
cp -a "$tree" "$native/lower"
cp -a "$tree" "$mnt/lower"
mkdir "$mnt/upper"
overlay native "$native/lower" "$native"
overlay below "$mnt/lower" "$native"
overlay above "$native/lower" "$mnt/upper"
overlay both "$mnt/lower" "$mnt/upper"
for which in native below above both; do
	change_overlay "$TEST_TMP/$which"
	"$manifest" "$TEST_TMP/$which" | sed -E 's/ size=[0-9]+//' >"$TEST_TMP/state-$which"
	expect "" "$(diff "$TEST_TMP/state-native" "$TEST_TMP/state-$which")" "an overlay, $which"
	umount "$TEST_TMP/$which"
	ok
done
same "$tree" "$mnt/lower" # as it was
[[ -c $mnt/upper/both.up/large && $(stat -c %t:%T "$mnt/upper/both.up/large") == 0:0 ]] || fail "no whiteout in the upper layer"
expect y "$(getfattr --only-values -n trusted.overlay.opaque "$mnt/upper/both.up/dir/deep" 2>/dev/null)" "a directory that hides what is below"
anew
overlay below "$mnt/lower" "$native"
overlay above "$native/lower" "$mnt/upper"
overlay both "$mnt/lower" "$mnt/upper"
for which in below above both; do
	"$manifest" "$TEST_TMP/$which" | sed -E 's/ size=[0-9]+//' | cmp - "$TEST_TMP/state-native" || fail "an overlay, $which, after a remount"
	# The kernel's overlayfs keeps one name of a file, and asks any FUSE file system for it again: with that one gone, others
	# are stale, but only in this mount of the overlay.
	cat "$TEST_TMP/$which/dir/f7" >/dev/null
	rm "$TEST_TMP/$which/dir/f7"
	umount "$TEST_TMP/$which"
done
overlay below "$mnt/lower" "$native"
overlay above "$native/lower" "$mnt/upper"
overlay both "$mnt/lower" "$mnt/upper"
for which in below above both; do
	cmp "$tree/dir/f7" "$TEST_TMP/$which/dir/f7-link" || fail "the other name of a file, in an overlay, $which"
	rm -r "$TEST_TMP/$which/dir"
	[[ ! -e $TEST_TMP/$which/dir ]] || fail "what was removed is there, in an overlay, $which"
	umount "$TEST_TMP/$which"
	ok
done
anew

# ---- bind mounts; commands by another path of the mount ----
mkdir "$TEST_TMP/bound" "$TEST_TMP/bound-dir"
mount --bind "$mnt" "$TEST_TMP/bound"
mount --bind -o ro "$mnt/lower/dir" "$TEST_TMP/bound-dir"
mount -o remount,bind,ro "$TEST_TMP/bound-dir"
echo bound >"$TEST_TMP/bound/file"
expect bound "$(cat "$mnt/file")" "what was written through a bind mount"
refused touch "$TEST_TMP/bound-dir/new"
same "$tree/dir" "$TEST_TMP/bound-dir"
"$COFFER" status "$TEST_TMP/bound" | grep -q "$b" || fail "status by a bind mount"
refused "$COFFER" umount "$TEST_TMP/nowhere"
umount "$TEST_TMP/bound-dir"
"$COFFER" umount "$mnt" 2>"$TEST_TMP/out" &
for _ in {1..200}; do # as long as a bind mount is there, so is the volume
	if grep -q 'in use by a bind mount' "$TEST_TMP/out"; then break; fi
	sleep 0.1
done
expect bound "$(cat "$TEST_TMP/bound/file")" "a bind mount of a volume that is being unmounted"
kill -0 $! || fail "the volume was released under a bind mount: $(cat "$TEST_TMP/out")"
umount "$TEST_TMP/bound"
wait $! || fail "not released after the last bind mount: $(cat "$TEST_TMP/out")"
mount_volume "$b" "$mnt"
expect bound "$(cat "$mnt/file")" "the volume after its bind mounts"

# ---- user namespaces: ids are those that the namespace maps; a mount of its own ----
# in_namespace COMMAND...: as root of a namespace whose ids 0 to 9999 are 100000 to 109999.
in_namespace() {
	local pid status=0
	mkfifo "$TEST_TMP/ready" "$TEST_TMP/go"
	# shellcheck disable=SC2016
	unshare --user --mount --keep-caps bash -c 'echo >"$0/ready"; read -r _ <"$0/go"; exec setpriv --reuid 0 --regid 0 --clear-groups "$@"' "$TEST_TMP" "$@" &
	pid=$!
	read -r _ <"$TEST_TMP/ready"
	echo '0 100000 10000' >"/proc/$pid/uid_map"
	echo '0 100000 10000' >"/proc/$pid/gid_map"
	echo >"$TEST_TMP/go"
	wait "$pid" || status=$?
	rm "$TEST_TMP/ready" "$TEST_TMP/go"
	return "$status"
}
chmod 777 "$TEST_TMP" "$mnt" # the namespace's root opens two pipes
mkdir "$mnt/theirs"
echo theirs >"$mnt/theirs/file"
chown -R 100000:100000 "$mnt/theirs"
echo "ours" >"$mnt/ours"
chmod 600 "$mnt/ours"
cat >"$TEST_TMP/inside" <<'END'
set -e
cd "$1/theirs"
[[ $(stat -c %u:%g file) == 0:0 && $(stat -c %u ../ours) == 65534 ]]
echo new >new
mkdir dir
chown 5:6 new
[[ $(stat -c %u:%g new) == 5:6 ]]
! cat ../ours
! chown 1:1 ../ours
mkdir low up work merged
echo low >low/gone
echo low >low/kept
mount -t overlay o -o userxattr,lowerdir=low,upperdir=up,workdir=work merged
rm merged/gone
echo more >>merged/kept
[[ $(ls merged) == kept && $(cat merged/kept) == $'low\nmore' ]]
umount merged
END
in_namespace bash "$TEST_TMP/inside" "$mnt" || fail "in a user namespace"
expect "100000:100000 100005:100006 100000:100000" "$(stat -c %u:%g "$mnt/theirs/file") $(stat -c %u:%g "$mnt/theirs/new") $(stat -c %u:%g "$mnt/theirs/dir")" \
	"owners seen from outside"
ok
device_mode=$(stat -c %a /dev/fuse)
trap 'status=$?; chmod "$device_mode" /dev/fuse; (exit $status); test_end' EXIT
chmod 666 /dev/fuse # as distributions have it
mkdir "$TEST_TMP/own"
chown 100000:100000 "$TEST_TMP/own"
cat >"$TEST_TMP/inside" <<'END'
set -e
export COFFER_STATE_DIR=$1/state
mkdir -m 700 "$1/state" "$1/mnt"
"$COFFER" create "$1/backing"
"$COFFER" mount "$1/backing" "$1/mnt"
echo own >"$1/mnt/file"
chown 7:8 "$1/mnt/file"
"$COFFER" umount "$1/mnt"
"$COFFER" mount "$1/backing" "$1/mnt"
[[ $(cat "$1/mnt/file") == own && $(stat -c %u:%g "$1/mnt/file") == 7:8 ]]
"$COFFER" umount "$1/mnt"
"$COFFER" fsck "$1/backing" --data
END
in_namespace bash "$TEST_TMP/inside" "$TEST_TMP/own" || fail "a mount in a user namespace"
ok

# ---- idmapped mounts: refused by the kernel, which must be told by the daemon that it can, for which libfuse has no way ----
cat >"$TEST_TMP/idmap.py" <<'END'
import ctypes, errno, os, struct, subprocess, sys
libc = ctypes.CDLL(None, use_errno=True)
child = subprocess.Popen(['unshare', '--user', 'sh', '-c', 'echo; read x'], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
child.stdout.readline()
for f in ('uid_map', 'gid_map'):
    with open('/proc/%d/%s' % (child.pid, f), 'w') as m:
        m.write('0 1000 10\n')
ns = os.open('/proc/%d/ns/user' % child.pid, os.O_RDONLY)
open_tree, mount_setattr, clone, empty_path, idmap = 428, 442, 1, 0x1000, 0x100000
tree = libc.syscall(open_tree, -100, sys.argv[1].encode(), clone | os.O_CLOEXEC)
attr = struct.pack('QQQQ', idmap, 0, 0, ns)
done = libc.syscall(mount_setattr, tree, b'', empty_path, attr, len(attr))
print('done' if done == 0 else errno.errorcode[ctypes.get_errno()])
child.stdin.close()
child.wait()
END
expect "done" "$(python3 "$TEST_TMP/idmap.py" "$native")" "an idmapped mount of ext4"
expect EINVAL "$(python3 "$TEST_TMP/idmap.py" "$mnt")" "an idmapped mount of a volume"
expect bound "$(cat "$mnt/file")" "the volume afterwards"
ok
umount_volume "$mnt"
"$COFFER" fsck "$b" --data
say "$good passed, 0 failed"
