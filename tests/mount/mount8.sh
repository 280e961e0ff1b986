#!/bin/bash
# Volumes in the hands of mount(8), umount(8), fstab, findmnt, df and fusermount3: what is shown, options, exit codes, remounts, dead
# mounts, names from coffer.conf, an ordinary user. In a mount namespace of its own, with mount helpers and an fstab of its own.
if [[ ${1:-} != inside ]]; then
	[[ $(id -u) -eq 0 ]] || { echo "skipped: needs root, for a mount namespace" && exit 77; }
	exec unshare --mount --propagation slave "$0" inside
fi
. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/helpers.sh"
b=$TEST_TMP/backing m=$TEST_TMP/mnt fstab=$TEST_TMP/fstab
good=0
ok() { good=$((good + 1)); }
# code WANTED COMMAND...: the exit code, and with a failure a word about why.
code() {
	local wanted=$1 status=0
	shift
	"$@" >"$TEST_TMP/out" 2>&1 </dev/null || status=$?
	[[ $status -eq $wanted ]] || fail "exit code $status instead of $wanted: $* ($(cat "$TEST_TMP/out"))"
	[[ $wanted -eq 0 || -s $TEST_TMP/out ]] || fail "failed without a word: $*"
	ok
}
says() { grep -qF -- "$1" "$TEST_TMP/out" || fail "does not say '$1': $(cat "$TEST_TMP/out")"; }
source_of() { findmnt -nro SOURCE --mountpoint "$1"; }
count_mounts() { awk -v dir="$TEST_TMP/" 'index($5, dir) == 1 && / - fuse\.coffer /' /proc/self/mountinfo | wc -l; }
has_option() { findmnt -nro OPTIONS --mountpoint "$1" | tr , '\n' | grep -qx "$2"; }
# Everything that the backing directory holds, but for the audit trail.
checksum() { (cd "$1" && find . -type f ! -name coffer.audit -exec sha256sum {} + | sort && find . | sort) | sha256sum; }
# The daemon and its helper at once: what is left is a mount that answers nothing.
kill_all_of() {
	local pid helper
	pid=$(daemon_pid "$1")
	helper=$(awk '{ print $1 }' "/proc/$pid/task/$pid/children")
	kill -KILL ${helper:+"$helper"} "$pid"
	await 30 is_dead "$1"
}
is_dead() { [[ $(stat "$@" 2>&1 || true) == *'not connected'* ]]; }

test_cleanup() { umount -a -t fuse.coffer; }
use_helpers
: >"$fstab"
mount --bind "$fstab" /etc/fstab
make_volume "$b" >/dev/null
mkdir "$m"

# ---- what is shown ----
for type in coffer fuse.coffer; do
	mount -t "$type" "$b" "$m"
	expect "fuse.coffer $b" "$(findmnt -nro FSTYPE,SOURCE --mountpoint "$m")" "type and source"
	expect "$b fuse.coffer $m" "$(df --output=source,fstype,target "$m" | tail -n 1 | tr -s ' ')" "df"
	pid=$(daemon_pid "$m")
	for process in "$pid" $(awk '{ print $1 }' "/proc/$pid/task/$pid/children"); do
		expect "$process" "$(awk '{ print $6 }' "/proc/$process/stat" | tr -d ' ')" "session of a process that stays"
	done
	echo "by $type" >"$m/file"
	"$COFFER" status "$m" | grep -qF "mounted on      $m" || fail "no status by the mount point"
	"$COFFER" status "$b" | grep -qF "mounted on      $m" || fail "no status by the backing directory"
	umount "$m"
	await 30 is_clean "$b"
	ok
done

# ---- options ----
mount -t coffer "$b" "$m" -o 'ro,noatime,nosuid,nodev,noexec,_netdev,nofail,x-systemd.automount,x-a="b,c",comment=text,noauto'
for option in ro noatime nosuid nodev noexec; do
	has_option "$m" "$option" || fail "$option did not get through"
done
expect "by fuse.coffer" "$(cat "$m/file")" "contents on a read-only mount"
refused touch "$m/new"
umount "$m"
ok
code 1 mount -t coffer "$b" "$m" -o frobnicate
says frobnicate
code 0 mount -s -t coffer "$b" "$m" -o frobnicate
"$COFFER" umount "$m"
before=$(checksum "$b")
code 0 mount -f -v -t coffer "$b" "$m"
code 32 mount -f -t coffer "$TEST_TMP" "$m"
code 32 mount -f -t coffer "$b" "$b/coffer.volume"
expect "$before" "$(checksum "$b")" "the backing directory after mount -f"
expect 0 "$(count_mounts)" "mounts after mount -f"

# ---- what cannot be mounted: mount(8)'s codes, a reason, no question ----
code 32 mount -t coffer "$TEST_TMP/nowhere" "$m"
code 32 mount -t coffer "$TEST_TMP/helpers" "$m"
says "no volume here"
code 32 mount.coffer "$b" "$TEST_TMP/nowhere"
code 1 mount.coffer "$b"
code 1 mount.coffer "$b" "$m" -q
code 1 mount -t coffer "$b" "$m" -o recovery
says "coffer mount"
code 32 env COFFER_STATE_DIR="$TEST_TMP/elsewhere" mount -t coffer "$b" "$m"
# A question would wait for the end of this input, which never comes.
mkfifo "$TEST_TMP/silence"
exec 8<>"$TEST_TMP/silence"
timeout 20 mount -t coffer "$b" "$m" <"$TEST_TMP/silence" || fail "mounting waited for its input"
umount "$m"
exec 8>&-
ok

# ---- one daemon for a volume ----
mkdir "$m.2" "$m.3"
for options in rw ro; do
	mount -t coffer "$b" "$m" -o $options
	for second in rw ro; do
		code 32 mount -t coffer "$b" "$m.2" -o $second
		says "serves this volume already"
	done
	[[ $options == rw ]] || code 32 env COFFER_STATE_DIR="$TEST_TMP/elsewhere" mount -t coffer "$b" "$m.2" -o ro
	expect "by fuse.coffer" "$(cat "$m/file")" "contents after a second mount was refused"
	expect 1 "$(count_mounts)" "mounts"
	"$COFFER" status "$b" | grep -qF "mounted on      $m" || fail "the daemon's socket is gone"
	"$COFFER" umount "$m"
done
# Two for the same place, at the same time or one after the other, as automounters do: both have what they want.
for ((i = 0; i < 5; i++)); do
	mount -t coffer "$b" "$m" 2>>"$TEST_TMP/out" &
	mount -t coffer "$b" "$m" || fail "the second of two mounts at once failed: $(cat "$TEST_TMP/out")"
	wait $! || fail "the first of two mounts at once failed: $(cat "$TEST_TMP/out")"
	expect 1 "$(count_mounts)" "mounts by two at once"
	"$COFFER" umount "$m"
done
mount -t coffer "$b" "$m"
code 0 mount -t coffer "$b" "$m"
says "mounted on $m already"
expect 1 "$(count_mounts)" "mounts after a second mount on the same place"
code 6 "$COFFER" mount "$b" "$m"
"$COFFER" umount "$m"
# The daemon is still writing when umount(8) comes back; the next mount waits for it.
for ((i = 0; i < 5; i++)); do
	mount -t coffer "$b" "$m"
	head -c 20000000 /dev/zero >"$m/large"
	umount "$m"
	mount -t coffer "$b" "$m" || fail "a volume that is just being released was refused"
	expect 20000000 "$(stat -c %s "$m/large")" "what was written before"
	rm "$m/large"
	umount "$m"
done
ok

# ---- fstab: several volumes, odd paths, a symbolic link, names ----
odd="$TEST_TMP/odd, name" linked=$TEST_TMP/linked named=$TEST_TMP/named
mkdir "$odd" "$linked.real" "$named"
for v in "$odd/b" "$linked.real/b" "$named/b" "$named/c"; do make_volume "$v" >/dev/null; done
mkdir "$odd/m" "$linked.real/m" "$named/m" "$named/n"
ln -s "$linked.real" "$linked"
cat >"$COFFER_CONFIG" <<END
volumes = {
	photos = { backing = "$named/b"; options = "noatime"; };
	letters = { backing = "$named/c"; mountpoint = "$named/n"; options = "ro"; };
};
END
cat >"$fstab" <<END
$b			$m			coffer		defaults,nofail,_netdev			0 0
${odd// /\\040}/b	${odd// /\\040}/m	fuse.coffer	nodev,x-gvfs-name=a\\040b		0 0
$linked/b		$linked/m		coffer		auto,comment=a				0 2
photos			$named/m		coffer		nosuid					0 0
letters			$named/n		coffer		rw,noauto				0 0
END
cd / # a name is a directory's, if there is one where mount(8) is called
findmnt --verify >"$TEST_TMP/out" 2>&1 || grep -q '^0 parse errors, 0 errors' "$TEST_TMP/out" || fail "$(cat "$TEST_TMP/out")"
for round in 1 2 3; do
	code 0 mount -a
	expect 4 "$(count_mounts)" "mounts after mount -a, time $round"
done
expect "$odd/b" "$(findmnt -nrvo SOURCE --mountpoint "$odd/m" | sed 's/\\x20/ /g')" "an odd source"
expect photos "$(source_of "$named/m")" "a name as source"
has_option "$named/m" noatime && has_option "$named/m" nosuid || fail "options of a name, and of fstab"
expect "$linked.real/b" "$(source_of "$linked.real/m")" "a link's source, which mount(8) resolves"
for v in "$m" "$odd/m" "$linked/m" "$named/m"; do
	echo here >"$v/here"
	"$COFFER" status "$v" >/dev/null || fail "status of $v"
done
df -h "$odd/m" "$m" >/dev/null || fail "df of several"
code 0 mount "$named/n"
code 0 umount "$named/n"
code 0 mount letters
expect letters "$(source_of "$named/n")" "a volume mounted by its name"
[[ $("$COFFER" status letters) == *"mounted on      $named/n"* ]] || fail "status by a name"
code 0 "$COFFER" fsck letters
code 0 umount letters
code 0 "$COFFER" mount letters
has_option "$named/n" ro || fail "options of a volume mounted by its name alone"
code 0 "$COFFER" umount letters
code 2 "$COFFER" mount photos
umount -a -t fuse.coffer # others are not in this namespace
expect 0 "$(count_mounts)" "mounts after umount -a"
for v in "$b" "$odd/b" "$linked/b" "$named/b" "$named/c"; do await 30 is_clean "$v"; done
ok

# ---- the source as it was given: by coffer mount, too; the daemon is found whatever becomes of it ----
cd "$TEST_TMP"
"$COFFER" mount backing mnt
expect "$b" "$(source_of "$m")" "a relative source"
"$COFFER" umount mnt
cd /
make_volume "$linked.real/other" >/dev/null
ln -sfn "$linked.real/b" "$TEST_TMP/current"
"$COFFER" mount "$TEST_TMP/current" "$m"
expect "$TEST_TMP/current" "$(source_of "$m")" "a link as source"
ln -sfn "$linked.real/other" "$TEST_TMP/current"
"$COFFER" mount "$TEST_TMP/current" "$m.2"
[[ $("$COFFER" status "$m") == *"backing         $linked.real/b"* ]] || fail "another volume's status"
[[ $("$COFFER" status "$m.2") == *"backing         $linked.real/other"* ]] || fail "another volume's status"
"$COFFER" key show "$m" >/dev/null
umount "$m"
await 30 is_clean "$linked.real/b"
# What a killed daemon leaves in the state directory leads nobody anywhere.
kill_all_of "$m.2"
"$COFFER" umount "$m.2"
"$COFFER" mount "$b" "$m.2"
expect "$b" "$("$COFFER" status "$m.2" | sed -n 's/^backing *//p')" "the daemon of a mount"
"$COFFER" umount "$m.2"
leftover=$(find "$COFFER_STATE_DIR/run" -name 'mount-*' | wc -l)
((leftover <= 1)) || fail "$leftover sockets of mounts are left"
ok

# ---- remounts ----
: >"$fstab"
echo 'sync_interval = 1;' >>"$COFFER_CONFIG"
mount -t coffer "$b" "$m" -o noexec
head -c 5000000 /dev/urandom >"$TEST_TMP/random"
cp "$TEST_TMP/random" "$m/random"
exec 7>"$m/open"
code 32 mount -o remount,ro "$m"
says "open for writing"
echo more >&7
exec 7>&-
code 0 mount -o remount,ro "$m"
expect "" "$(cat "$TEST_TMP/out")" "what is said of a remount that went well"
has_option "$m" ro && has_option "$m" noexec || fail "flags after remount,ro: $(findmnt -nro OPTIONS --mountpoint "$m")"
refused touch "$m/new"
refused setfattr -n user.x -v y "$m/random"
[[ $("$COFFER" status "$m") == *read-only* ]] || fail "status after remount,ro"
refused "$COFFER" key rotate "$m" 2>/dev/null
before=$(checksum "$b")
cmp "$TEST_TMP/random" "$m/random" || fail "contents after remount,ro"
sleep 2 # longer than sync_interval: access times would be written
expect "$before" "$(checksum "$b")" "the backing directory while it is mounted read-only"
code 0 mount -o remount,rw "$m"
has_option "$m" rw && has_option "$m" noexec || fail "flags after remount,rw"
echo again >"$m/again"
code 0 "$COFFER" key rotate "$m"
code 0 mount -o remount,noatime,exec "$m"
has_option "$m" noatime && ! has_option "$m" noexec || fail "flags after a remount of flags alone"
# What rewrites objects under a new key stops meanwhile, and goes on afterwards.
head -c 40000000 /dev/zero >"$m/zeros"
code 0 "$COFFER" reencrypt "$m" --rate 2 --no-wait
code 0 mount -o remount,ro "$m"
refused "$COFFER" reencrypt "$m" --no-wait 2>/dev/null
before=$(checksum "$b")
sleep 2
expect "$before" "$(checksum "$b")" "the backing directory, while a scope waits to be rewritten"
is_to_be_rewritten() { "$COFFER" status "$m" --json | grep -q '"reencryption"'; }
is_to_be_rewritten || fail "nothing was left to be rewritten"
code 0 mount -o remount,rw "$m"
code 0 "$COFFER" reencrypt "$m" --rate 0
is_to_be_rewritten && fail "rewriting did not go on"
cmp -n 40000000 /dev/zero "$m/zeros" || fail "contents that were rewritten"
rm "$m/zeros"
code 0 "$COFFER" mount "$b" "$m" -o remount,ro
"$COFFER" umount "$m"
is_clean "$b" || fail "not clean after unmounting what was remounted read-only"
code 0 "$COFFER" fsck "$b" --data
mount -t coffer "$b" "$m" -o ro
expect again "$(cat "$m/again")" "contents written after remount,rw"
code 32 mount -o remount,rw "$m"
says "opened read-only"
has_option "$m" ro || fail "writable although it was refused"
code 0 mount -o remount,ro,nosuid "$m"
umount "$m"
printf '%s %s coffer noauto,nodev 0 0\n' "$b" "$m" >"$fstab"
mount "$m"
code 0 mount -o remount,ro "$m" # with what fstab says of it
has_option "$m" ro && has_option "$m" nodev || fail "flags after a remount by fstab"
# Killed just when it became read-only: nothing is lost of what the kernel had not even begun to write.
for ((i = 0; i < 3; i++)); do
	code 0 mount -o remount,rw "$m"
	rm -f "$m"/burst.*
	for ((j = 0; j < 40; j++)); do cp "$TEST_TMP/random" "$m/burst.$j" & done 2>/dev/null
	wait
	code 0 mount -o remount,ro "$m"
	kill_all_of "$m"
	umount -l "$m"
	code 32 mount.coffer "$b" "$m" -o remount,rw
	says "no volume is mounted"
	mount "$m"
	for ((j = 0; j < 40; j++)); do
		cmp "$TEST_TMP/random" "$m/burst.$j" || fail "contents after a daemon was killed while read-only"
	done
done
"$COFFER" umount "$m"
code 0 "$COFFER" fsck "$b" --data
ok

# ---- a read-only backing directory ----
mount --bind "$b" "$m.3"
mount -o remount,bind,ro "$m.3"
code 32 mount -t coffer "$m.3" "$m"
code 0 mount -t coffer "$m.3" "$m" -o ro
cmp "$TEST_TMP/random" "$m/random" || fail "contents from a read-only backing directory"
code 32 mount -t coffer "$m.3" "$m.2" -o ro
"$COFFER" umount "$m"
umount "$m.3"

# ---- over a dead mount, and over several ----
mount -t coffer "$b" "$m" -o writeback=off
echo kept >"$m/kept"
kill_all_of "$m"
code 0 mount -t coffer "$b" "$m"
expect 1 "$(count_mounts)" "mounts over a dead one"
expect kept "$(cat "$m/kept")" "contents after that"
kill_all_of "$m"
code 0 umount "$m"
expect 0 "$(count_mounts)" "mounts after umount(8) of a dead one"
mount -t coffer "$b" "$m"
cd "$m"
code 32 umount "$m"
code 0 umount -l "$m"
cd /
ok

# ---- meson install puts the helpers where mount(8) looks for them ----
if [[ -e $COFFER_BUILD/build.ninja ]]; then
	DESTDIR=$TEST_TMP/root meson install -C "$COFFER_BUILD" --no-rebuild --skip-subprojects >/dev/null 2>&1 || fail "meson install"
	for name in mount.coffer mount.fuse.coffer; do
		link=$(readlink "$TEST_TMP/root/usr/sbin/$name") || fail "$name is not installed"
		[[ -x $TEST_TMP/root$link ]] || fail "$name leads to $link, where nothing is"
	done
	ok
fi

# ---- an ordinary user: `user` in fstab, by way of fusermount3 ----
user=(setpriv --reuid 65534 --regid 65534 --clear-groups env "HOME=$TEST_TMP/home" COFFER_STATE_DIR= COFFER_CONFIG=)
mkdir "$TEST_TMP/home" "$TEST_TMP/home/m"
# mount(8) takes HOME away from its helpers: a user's state is found by the user's entry.
sed "s|^\([^:]*:[^:]*:65534:.*\):[^:]*:[^:]*$|\1:$TEST_TMP/home:/bin/sh|" /etc/passwd >"$TEST_TMP/passwd"
grep -qF ":65534:" "$TEST_TMP/passwd" || skip "needs a user 65534 (nobody)"
mount --bind "$TEST_TMP/passwd" /etc/passwd
chown -R 65534:65534 "$TEST_TMP/home"
chmod 755 "$TEST_TMP"
mknod -m 666 "$TEST_TMP/fuse" c 10 229
mount --bind "$TEST_TMP/fuse" /dev/fuse # open to all, as distributions have it
"${user[@]}" "$COFFER" create "$TEST_TMP/home/vol" >/dev/null
printf '%s %s coffer noauto,user,nofail 0 0\n' "$TEST_TMP/home/vol" "$TEST_TMP/home/m" >"$fstab"
code 0 "${user[@]}" mount "$TEST_TMP/home/m"
has_option "$TEST_TMP/home/m" user_id=65534 || fail "not mounted as the user"
has_option "$TEST_TMP/home/m" nosuid && has_option "$TEST_TMP/home/m" noexec || fail "what 'user' implies"
"${user[@]}" sh -c "echo mine >'$TEST_TMP/home/m/file'"
expect "$TEST_TMP/home/vol" "$("${user[@]}" df --output=source "$TEST_TMP/home/m" | tail -n 1)" "df of a user's mount"
code 0 "${user[@]}" "$COFFER" status "$TEST_TMP/home/m"
code 0 "${user[@]}" umount "$TEST_TMP/home/m"
code 0 "${user[@]}" mount "$TEST_TMP/home/m"
expect mine "$("${user[@]}" cat "$TEST_TMP/home/m/file")" "contents of a user's mount"
code 0 "${user[@]}" fusermount3 -u "$TEST_TMP/home/m"
code 0 "${user[@]}" mount "$TEST_TMP/home/m" # at once: the daemon may still be ending
pid=$("${user[@]}" "$COFFER" status "$TEST_TMP/home/m" --json | sed -n 's/.*"pid": \([0-9]*\).*/\1/p')
kill -KILL "$(awk '{ print $1 }' "/proc/$pid/task/$pid/children")" "$pid"
await 30 "${user[@]}" bash -c "[[ \$(stat '$TEST_TMP/home/m' 2>&1) == *'not connected'* ]]"
code 0 "${user[@]}" "$COFFER" mount "$TEST_TMP/home/vol" "$TEST_TMP/home/m" # over the dead mount
expect mine "$("${user[@]}" cat "$TEST_TMP/home/m/file")" "contents over a user's dead mount"
code 0 "${user[@]}" umount "$TEST_TMP/home/m"
refused "${user[@]}" mount "$m" 2>/dev/null
say "$good passed, 0 failed"
