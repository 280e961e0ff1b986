#!/bin/bash
# Mounting and unmounting: foreground, background, signals, refusals, options, an ordinary user, a daemon that is killed.
# sanitize: yes
# timeout: 600
. "$(dirname "$0")/../lib.sh"
b=$TEST_TMP/backing mnt=$TEST_TMP/mnt
good=0
ok() { good=$((good + 1)); }
# code WANTED COMMAND...: the exit code.
code() {
	local wanted=$1 status=0
	shift
	"$@" >"$TEST_TMP/out" 2>&1 || status=$?
	[[ $status -eq $wanted ]] || fail "exit code $status instead of $wanted: $* ($(cat "$TEST_TMP/out"))"
	ok
}
is_mounted() { grep -q " $1 fuse.coffer " /proc/mounts; }
# A daemon nobody waits for may stay as a zombie.
is_running() { [[ -e /proc/$1 && $(sed -n 's/^State:.\(.\).*/\1/p' "/proc/$1/status" 2>/dev/null) != [ZX] ]]; }
# But for the audit trail, in which a refused mount is recorded.
checksum() { (cd "$1" && find . -type f ! -name coffer.audit -exec sha256sum {} + | sort && find . | sort) | sha256sum; }

# What is changed outside of TEST_TMP is put back, whatever happens.
switch=/sys/module/fuse/parameters/enable_uring
was=$(cat "$switch" 2>/dev/null || true)
device_mode=$(stat -c %a /dev/fuse)
put_back() {
	[[ -z $was ]] || printf '%s' "$was" >"$switch"
	chmod "$device_mode" /dev/fuse
}
trap 'status=$?; put_back; (exit $status); test_end' EXIT

make_volume "$b"
mkdir "$mnt"

# ---- background: works when the command returns; unmounting writes everything ----
"$COFFER" mount "$b" "$mnt"
is_mounted "$mnt" || fail "not mounted when mount returned"
expect "$b" "$(findmnt -nro SOURCE --mountpoint "$mnt")" "source of the mount"
echo one >"$mnt/file"
code 6 "$COFFER" mount "$b" "$TEST_TMP"
rm "$b/log/lock" # the directory itself is locked, too
code 6 "$COFFER" mount "$b" "$TEST_TMP"
"$COFFER" umount "$mnt"
is_mounted "$mnt" && fail "still mounted"
is_clean "$b" || fail "not clean after unmounting"
"$COFFER" mount "$b" "$mnt"
expect one "$(cat "$mnt/file")" "contents after remount"
ok

# ---- busy: refused, and goes on working ----
exec 7<"$mnt/file"
code 6 "$COFFER" umount "$mnt"
expect one "$(cat <&7)" "reading a file open over a refused unmount"
exec 7<&-

# ---- unmounting by umount(8): the daemon ends by itself ----
pid=$(daemon_pid "$mnt")
echo two >"$mnt/file"
umount "$mnt"
await 30 not is_running "$pid"
is_clean "$b" || fail "not clean after umount(8)"
ok

# ---- foreground, and the signals ----
for signal in TERM INT HUP; do
	"$COFFER" mount -f "$b" "$mnt" 2>"$TEST_TMP/log" &
	child=$!
	await 30 is_mounted "$mnt"
	head -c 3000000 /dev/urandom >"$mnt/$signal"
	sum=$(sha256sum <"$mnt/$signal")
	# A shell's background children ignore SIGINT until they say otherwise; the daemon waits for it.
	kill -"$signal" "$child"
	wait "$child" || fail "exit code $? after SIG$signal: $(cat "$TEST_TMP/log")"
	is_mounted "$mnt" && fail "still mounted after SIG$signal"
	is_clean "$b" || fail "not clean after SIG$signal"
	"$COFFER" mount "$b" "$mnt"
	expect "$sum" "$(sha256sum <"$mnt/$signal")" "contents after SIG$signal"
	"$COFFER" umount "$mnt"
	ok
done

# ---- SIGTERM while files are in use: detached, and what was written is there ----
"$COFFER" mount "$b" "$mnt"
pid=$(daemon_pid "$mnt")
exec 7>"$mnt/open"
head -c 5000000 /dev/zero >&7
echo end >&7
kill -TERM "$pid"
await 60 not is_running "$pid"
exec 7>&- || true
is_mounted "$mnt" && fail "still mounted"
is_clean "$b" || fail "not clean after a detached unmount"
"$COFFER" mount "$b" "$mnt"
expect 5000004 "$(stat -c %s "$mnt/open")" "size of a file that was open at SIGTERM"
expect end "$(tail -c 4 "$mnt/open")" "its end"
"$COFFER" umount "$mnt"
ok

# ---- SIGTERM while another mount namespace has a copy of the mount: ends all the same, with everything written ----
"$COFFER" mount "$b" "$mnt"
pid=$(daemon_pid "$mnt")
unshare --mount --propagation private sleep 120 &
sleeper=$!
await 30 grep -q " $mnt fuse.coffer " "/proc/$sleeper/mounts"
echo elsewhere >"$mnt/elsewhere"
kill -TERM "$pid"
await 60 not is_running "$pid"
is_clean "$b" || fail "not clean after a stop with the mount alive elsewhere"
kill "$sleeper"
"$COFFER" mount "$b" "$mnt"
expect elsewhere "$(cat "$mnt/elsewhere")" "contents written before that"
"$COFFER" umount "$mnt"
ok

# ---- SIGKILL: the helper takes the dead mount away; nothing acknowledged is lost ----
"$COFFER" mount "$b" "$mnt" -o writeback=off
mkdir "$mnt/dir"
echo kept >"$mnt/dir/kept"
kill -KILL "$(daemon_pid "$mnt")"
await 30 not is_mounted "$mnt"
"$COFFER" status "$b" | grep -q 'not unmounted cleanly' || fail "status does not tell an unclean end"
"$COFFER" mount "$b" "$mnt"
expect kept "$(cat "$mnt/dir/kept")" "contents after SIGKILL"
"$COFFER" umount "$mnt"
code 0 "$COFFER" fsck "$b" --data

# ---- what cannot be mounted, and that it changes nothing ----
before=$(checksum "$b")
mkdir "$TEST_TMP/empty"
touch "$TEST_TMP/plainfile"
code 3 "$COFFER" mount "$TEST_TMP/nowhere" "$mnt"
code 3 "$COFFER" mount "$TEST_TMP/empty" "$mnt"
code 10 "$COFFER" mount "$b" "$TEST_TMP/nowhere"
code 10 "$COFFER" mount "$b" "$TEST_TMP/plainfile"
code 10 "$COFFER" mount "$b" "$b"
code 10 "$COFFER" mount "$b" "$b/objects"
code 2 "$COFFER" mount "$b" "$mnt" -o nonsense
code 2 "$COFFER" mount "$b" "$mnt" -o writeback=perhaps
code 2 "$COFFER" mount "$b"
code 5 "$COFFER" mount "$b" "$mnt" --state-dir "$TEST_TMP/other-state"
expect "$before" "$(checksum "$b")" "the backing directory after refused mounts"
is_mounted "$mnt" && fail "mounted by a refused mount"

# ---- keys in files ----
k=$TEST_TMP/keyed key=$TEST_TMP/key
head -c 32 /dev/urandom >"$key"
chmod 600 "$key"
make_volume "$k" --key "file://$key"
before=$(checksum "$k")
cp -p "$key" "$key.good"
head -c 32 /dev/urandom >"$key"
code 4 "$COFFER" mount "$k" "$mnt"
cp -p "$key.good" "$key"
chmod 644 "$key"
code 5 "$COFFER" mount "$k" "$mnt"
rm "$key"
code 5 "$COFFER" mount "$k" "$mnt"
expect "$before" "$(checksum "$k")" "the backing directory after wrong keys"
cp -p "$key.good" "$key"
"$COFFER" mount "$k" "$mnt"
expect "file://$key" "$(getfattr --only-values -n user.coffer.key_source "$mnt")" "key source"
"$COFFER" umount "$mnt"
ok

# A path that a URI must encode; and the same key in a new file, which is how keys are put in place.
odd="$TEST_TMP/keys/a#b c.key"
mkdir "$TEST_TMP/keys"
cp -p "$key.good" "$odd"
make_volume "$TEST_TMP/odd-keyed" --key "file://$TEST_TMP/keys/a%23b c.key"
echo 'key_poll = 1;' >"$TEST_TMP/poll.conf"
"$COFFER" mount --config "$TEST_TMP/poll.conf" "$TEST_TMP/odd-keyed" "$mnt"
cp -p "$odd" "$odd.new"
mv "$odd.new" "$odd"
sleep 2.5 # it has been asked for since
"$COFFER" status "$mnt" | grep -q 'state *active; checked' || fail "a key file that was replaced by the same is not active"
rm "$odd"
revoked() { "$COFFER" status "$mnt" | grep -q 'state .*revoked'; }
await 20 revoked || fail "a key file that is gone is not revoked"
"$COFFER" umount "$mnt"
ok

# ---- a backing directory that is not whole ----
for part in log objects; do
	mv "$b/$part" "$b/$part.away"
	code 11 "$COFFER" mount "$b" "$mnt"
	[[ -s $TEST_TMP/out ]] || fail "no word about a missing $part"
	mv "$b/$part.away" "$b/$part"
done

# ---- an edited and an older descriptor ----
cp -p "$b/coffer.volume" "$TEST_TMP/older"
"$COFFER" mount "$b" "$mnt"
"$COFFER" umount "$mnt"
cp -p "$b/coffer.volume" "$TEST_TMP/newer"
sed 's/name = "default"/name = "defaulT"/' "$TEST_TMP/newer" >"$b/coffer.volume"
cmp -s "$TEST_TMP/newer" "$b/coffer.volume" && fail "the descriptor has no text to edit"
code 12 "$COFFER" mount "$b" "$mnt"
cp -p "$TEST_TMP/older" "$b/coffer.volume"
code 9 "$COFFER" mount "$b" "$mnt"
cp -p "$TEST_TMP/newer" "$b/coffer.volume"
code 0 "$COFFER" mount "$b" "$mnt"
"$COFFER" umount "$mnt"

# ---- options ----
"$COFFER" mount "$b" "$mnt" -o ro,noatime,nofail,_netdev,x-systemd.automount,comment=text,defaults
expect two "$(cat "$mnt/file")" "contents on a read-only mount"
refused touch "$mnt/new"
"$COFFER" umount "$mnt"
ok
"$COFFER" mount "$b" "$mnt" -o nosuid,nodev,noexec
[[ $(findmnt -nro OPTIONS --mountpoint "$mnt") == *nosuid*nodev*noexec* ]] || fail "mount flags did not get through"
"$COFFER" umount "$mnt"
ok
if [[ -w $switch ]]; then
	"$COFFER" mount "$b" "$mnt" -o uring=on
	expect two "$(cat "$mnt/file")" "contents by io_uring"
	head -c 4000000 /dev/urandom >"$TEST_TMP/random"
	cp "$TEST_TMP/random" "$mnt/random"
	dd if="$mnt/random" bs=1000001 iflag=direct status=none | cmp - "$TEST_TMP/random" || true
	dd if="$mnt/random" bs=1M iflag=direct status=none | cmp - "$TEST_TMP/random" || fail "contents by io_uring"
	"$COFFER" status "$mnt" | grep -q io_uring || fail "status does not name io_uring"
	"$COFFER" umount "$mnt"
	code 0 "$COFFER" fsck "$b" --data
	"$COFFER" mount "$b" "$mnt" -o uring=off
	cmp "$mnt/random" "$TEST_TMP/random" || fail "what io_uring wrote"
	"$COFFER" status "$mnt" | grep -q /dev/fuse || fail "uring=off still uses io_uring"
	"$COFFER" umount "$mnt"
	printf '%s' "$was" >"$switch"
	ok
fi
mkdir "$TEST_TMP/odd, name"
odd="$TEST_TMP/odd, name/vol\\ume"
make_volume "$odd"
"$COFFER" mount "$odd" "$TEST_TMP/odd, name"
expect fuse.coffer "$(findmnt -nro FSTYPE --mountpoint "$TEST_TMP/odd, name")" "a mount with odd names"
"$COFFER" status "$TEST_TMP/odd, name" | grep -qF "$odd" || fail "status of a mount with odd names"
"$COFFER" umount "$TEST_TMP/odd, name"
ok

# ---- what the kernel remembers follows what is done through other names ----
"$COFFER" mount "$b" "$mnt"
echo x >"$mnt/first"
ln "$mnt/first" "$mnt/second"
expect 2 "$(stat -c %h "$mnt/first")" "links seen by the first name"
rm "$mnt/second"
expect 1 "$(stat -c %h "$mnt/first")" "links after removing the second"
echo y >"$mnt/third"
ln "$mnt/third" "$mnt/fourth"
mv "$mnt/first" "$mnt/third"
expect 1 "$(stat -c %h "$mnt/fourth")" "links after a name was replaced"
[[ ! -e $mnt/first ]] || fail "a moved name is still there"
mkdir "$mnt/p" "$mnt/p/q"
expect 3 "$(stat -c %h "$mnt/p")" "links of a directory"
rmdir "$mnt/p/q"
expect 2 "$(stat -c %h "$mnt/p")" "links of a directory after rmdir"
ok

# ---- the status attributes ----
expect yes "$(getfattr --only-values -n user.coffer.encrypted "$mnt/third")" "encrypted"
expect default "$(getfattr --only-values -n user.coffer.scope "$mnt")" "scope"
expect gmac "$(getfattr --only-values -n user.coffer.integrity "$mnt/third")" "integrity"
expect "" "$(getfattr -d "$mnt/third")" "listed attributes"
refused setfattr -n user.coffer.scope -v other "$mnt/third"
refused setfattr -x user.coffer.scope "$mnt/third"
refused getfattr -n user.coffer.nonsense "$mnt/third"
ok

# ---- others may use root's mount, as far as permissions go ----
chmod 755 "$TEST_TMP" "$mnt"
echo public >"$mnt/public"
echo private >"$mnt/private"
chmod 600 "$mnt/private"
expect public "$(setpriv --reuid 65534 --regid 65534 --clear-groups cat "$mnt/public")" "another user's read"
refused setpriv --reuid 65534 --regid 65534 --clear-groups cat "$mnt/private"
"$COFFER" umount "$mnt"
ok

# ---- the backing directory fails: errors reach the caller, umount tells, and what was synced is there ----
disk=$(make_loop_fs xfs 400M)
make_volume "$disk/vol"
"$COFFER" mount "$disk/vol" "$mnt"
echo synced >"$mnt/synced"
sync "$mnt/synced"
xfs_io -x -c shutdown "$disk"
refused sh -c "echo x >'$mnt/new'"
code 13 "$COFFER" umount "$mnt"
is_mounted "$mnt" && fail "still mounted"
image=$(losetup -nO BACK-FILE "$(findmnt -nro SOURCE --mountpoint "$disk")")
umount "$disk"
mount -o loop "$image" "$disk"
"$COFFER" mount "$disk/vol" "$mnt"
expect synced "$(cat "$mnt/synced")" "contents synced before the backing directory failed"
"$COFFER" umount "$mnt"
ok

# ---- others fill the disk to the last byte: the volume mounts all the same, and removing makes room, which they get ----
for type in ext4 xfs btrfs; do
	command -v "mkfs.$type" >/dev/null || continue
	disk=$(make_loop_fs "$type" 400M)
	make_volume "$disk/vol"
	"$COFFER" mount "$disk/vol" "$mnt"
	dd if=/dev/urandom of="$mnt/large" bs=1M count=100 conv=fsync status=none
	"$COFFER" umount "$mnt"
	for size in 1M 4K; do
		refused dd if=/dev/zero of="$disk/other-$size" bs="$size" status=none conv=fsync
	done
	"$COFFER" mount "$disk/vol" "$mnt" -o writeback=off
	refused dd if=/dev/urandom of="$mnt/more" bs=1M count=2 status=none
	rm "$mnt/large"
	await 30 dd if=/dev/zero of="$disk/room" bs=1M count=50 status=none conv=fsync
	echo new >"$mnt/new"
	"$COFFER" umount "$mnt"
	umount "$disk" # at once: nothing of the daemon's has it open any more
done
ok

# ---- an ordinary user, through fusermount3 ----
user=(setpriv --reuid 65534 --regid 65534 --clear-groups env "HOME=$TEST_TMP/home" "COFFER_STATE_DIR=" "COFFER_CONFIG=")
mkdir "$TEST_TMP/home" "$TEST_TMP/umnt"
chown 65534:65534 "$TEST_TMP/home" "$TEST_TMP/umnt"
chmod 666 /dev/fuse # as distributions have it
"${user[@]}" "$COFFER" create "$TEST_TMP/home/vol"
"${user[@]}" "$COFFER" mount "$TEST_TMP/home/vol" "$TEST_TMP/umnt"
"${user[@]}" sh -c "echo mine >'$TEST_TMP/umnt/file'"
expect 65534 "$(stat -c %u "$TEST_TMP/home/.local/state/coffer")" "owner of the user's state directory"
expect mine "$("${user[@]}" cat "$TEST_TMP/umnt/file")" "contents on a user's mount"
"${user[@]}" "$COFFER" umount "$TEST_TMP/umnt"
"${user[@]}" "$COFFER" mount "$TEST_TMP/home/vol" "$TEST_TMP/umnt"
expect mine "$("${user[@]}" cat "$TEST_TMP/umnt/file")" "contents on a user's second mount"
pid=$("${user[@]}" "$COFFER" status "$TEST_TMP/umnt" --json | sed -n 's/.*"pid": \([0-9]*\).*/\1/p')
kill -TERM "$pid"
await 30 not is_running "$pid"
is_mounted "$TEST_TMP/umnt" && fail "a user's mount is there after SIGTERM"
ok

# ---- confined: no new privileges, a filter, no core dumps ----
if [[ $COFFER_BUILD != *asan* && $COFFER_BUILD != *tsan* ]]; then
	"$COFFER" mount "$b" "$mnt"
	pid=$(daemon_pid "$mnt")
	grep -q '^NoNewPrivs:.1' "/proc/$pid/status" || fail "the daemon could gain privileges"
	grep -q '^Seccomp:.2' "/proc/$pid/status" || fail "the daemon has no system call filter"
	grep -q '^Max core file size *0 *0 ' "/proc/$pid/limits" || fail "the daemon could dump core"
	"$COFFER" umount "$mnt"
	ok
fi
say "$good passed, 0 failed"
