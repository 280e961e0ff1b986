#!/bin/bash
# A volume below automount(8): mounted on access, by many at once, too, unmounted when it was not used for a while and not before,
# and mounted again. In a mount namespace of its own.
if [[ ${1:-} != inside ]]; then
	[[ $(id -u) -eq 0 ]] || { echo "skipped: needs root, for a mount namespace" && exit 77; }
	exec unshare --mount --propagation slave "$0" inside
fi
. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/helpers.sh"
command -v automount >/dev/null || skip "needs automount (Debian's autofs)"
grep -qw autofs /proc/filesystems || modprobe autofs4 2>/dev/null || skip "this kernel has no autofs"
b=$TEST_TMP/backing top=$TEST_TMP/vaults
good=0
ok() { good=$((good + 1)); }
why_not() { printf ' (%s)' "$(tail -n 30 "$TEST_TMP/log")"; }
# By the kernel's table: looking at a path would mount it.
is_mounted() { grep -q " $top/$1 fuse.coffer " /proc/self/mounts; }
is_running() { [[ -e /proc/$1 && $(sed -n 's/^State:.\(.\).*/\1/p' "/proc/$1/status" 2>/dev/null) != [ZX] ]]; }

use_helpers
make_volume "$b" >/dev/null
make_volume "$b.named" >/dev/null
mkdir "$top"
echo "volumes = { photos = { backing = \"$b.named\"; options = \"nodev\"; }; };" >"$COFFER_CONFIG"
# The examples that are installed, with paths and a timeout for a test, and a volume by its name, and one that is not there.
sed -e "s|/vaults|$top|; s|/etc/auto.coffer|$TEST_TMP/auto.coffer|; s|--timeout=.*|--timeout=2|" \
	"$ROOT/etc/autofs/coffer.autofs" >"$TEST_TMP/master"
sed -e "s|^# vault|vault|; s|/srv/vault|$b|; s|^# archive|archive|; s|/srv/archive|$b|" "$ROOT/etc/autofs/auto.coffer" >"$TEST_TMP/auto.coffer"
printf '%s\n' "named -fstype=coffer,nosuid :photos" "nothing -fstype=coffer :$TEST_TMP/nothing" >>"$TEST_TMP/auto.coffer"

# In a session of its own: whoever is in its process group sees the directories below as they are.
setsid automount --foreground --dont-check-daemon --pid-file "$TEST_TMP/automount.pid" --verbose "$TEST_TMP/master" >"$TEST_TMP/log" 2>&1 &
automount=$!
test_cleanup() {
	local pid
	pid=$(cat "$TEST_TMP/automount.pid" 2>/dev/null || echo "$automount")
	umount -a -l -t fuse.coffer
	kill -TERM "$pid" 2>/dev/null || return 0
	for ((i = 0; i < 100; i++)); do
		is_running "$pid" || return 0
		sleep 0.05
	done
	kill -KILL "$pid"
	umount -l "$top" 2>/dev/null
}
await 30 grep -q "^$TEST_TMP/auto.coffer $top autofs" /proc/self/mounts

# ---- mounted on access, read and written ----
is_mounted vault && fail "mounted before anybody came"
timeout 30 ls "$top/vault" >/dev/null || fail "no access: $(cat "$TEST_TMP/log")"
is_mounted vault || fail "not mounted on access"
expect "$b noatime" "$(findmnt -nro SOURCE,OPTIONS --mountpoint "$top/vault" | grep -o "^$b \|noatime" | tr -d '\n')" "source and option"
echo one >"$top/vault/file"
# Nothing of the daemon's is on the mount: it would never be unmounted.
pid=$(daemon_pid "$top/vault")
for process in "$pid" $(awk '{ print $1 }' "/proc/$pid/task/$pid/children"); do
	held=$(readlink "/proc/$process/cwd" "/proc/$process/root" "/proc/$process"/fd/* | grep "^$top" || true)
	expect "" "$held" "what process $process has open on the mount"
done
ok

# ---- unmounted when it was not used; everything is written, and the daemon gone ----
await 30 not is_mounted vault
await 30 not is_running "$pid"
is_clean "$b" || fail "not clean after it expired"
ok

# ---- not while it is in use ----
exec 7<"$top/vault/file"
sleep 5
is_mounted vault || fail "unmounted under an open file"
expect one "$(cat <&7)" "contents of a file that stayed open"
exec 7<&-
cd "$top/vault"
sleep 5
is_mounted vault || fail "unmounted under a working directory"
cd /
await 30 not is_mounted vault
ok

# ---- by many at once, each time just after it was unmounted, while the last daemon may still be writing ----
for ((round = 0; round < 3; round++)); do
	readers=()
	for ((i = 0; i < 12; i++)); do
		(expect one "$(timeout 60 cat "$top/vault/file")" "contents") &
		readers+=($!)
	done
	for reader in "${readers[@]}"; do wait "$reader" || fail "a reader found nothing: $(tail -n 30 "$TEST_TMP/log")"; done
	expect 1 "$(grep -c " $top/vault fuse.coffer " /proc/self/mounts)" "mounts"
	head -c 5000000 /dev/urandom >"$top/vault/$round"
	await 30 not is_mounted vault
done
await 30 is_clean "$b"
await 30 "$COFFER" fsck "$b" --data # once the last daemon has let it go
ok

# ---- by its name, and read-only ----
timeout 30 touch "$top/named/new" || fail "no access by a name"
[[ $(findmnt -nro OPTIONS --mountpoint "$top/named") == *nosuid*nodev* ]] || fail "options of a name, and of the map"
expect one "$(timeout 60 cat "$top/archive/file")" "contents read-only"
refused touch "$top/archive/new" 2>/dev/null
ok

# ---- what cannot be mounted fails, at once ----
SECONDS=0
refused timeout 60 ls "$top/nothing" 2>/dev/null
((SECONDS < 20)) || fail "it took $SECONDS seconds to fail"
ok

# ---- a daemon that is killed: the next access mounts anew ----
timeout 60 ls "$top/named" >/dev/null
pid=$(daemon_pid "$top/named")
kill -KILL "$pid"
await 30 timeout 10 ls "$top/named/new" 2>/dev/null
ok

# ---- the end of the automounter ----
kill -TERM "$(cat "$TEST_TMP/automount.pid")"
await 30 not is_mounted named
await 30 not grep -q " $top autofs" /proc/self/mounts
await 30 is_clean "$b.named"
ok
say "$good passed, 0 failed"
