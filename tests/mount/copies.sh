#!/bin/bash
# Copies of the backing directory of a volume in use: rsync, cp, tar, a btrfs snapshot, frozen and not; what a freeze holds and what ends it.
# sanitize: thread
# timeout: 900
. "$(dirname "$0")/../lib.sh"
mnt=$TEST_TMP/mnt replica=$TEST_TMP/replica
good=0
ok() { good=$((good + 1)); }
manifest=$COFFER_BUILD/tests/manifest
writer=
test_cleanup() {
	# shellcheck disable=SC2086
	kill $writer 2>/dev/null || true
	"$COFFER" thaw "$mnt" 2>/dev/null || true
}
# code WANTED COMMAND...: the exit code; what it says is in $TEST_TMP/out.
code() {
	local wanted=$1 status=0
	shift
	"$@" >"$TEST_TMP/out" 2>&1 || status=$?
	[[ $status -eq $wanted ]] || fail "exit code $status instead of $wanted: $* ($(cat "$TEST_TMP/out"))"
	ok
}
said() { grep -q -- "$1" "$TEST_TMP/out" || fail "'$1' was not said: $(cat "$TEST_TMP/out")"; }
is_mounted() { grep -q " $1 fuse.coffer " /proc/mounts; }

# Changes of all kinds, without pause, in $mnt/busy/work; notes, outside, each file that was synced: its number and name.
cat >"$TEST_TMP/writer.py" <<'END'
import os, sys
work, notes = sys.argv[1:3]
os.chdir(work)
log = open(notes, 'a')
n = 0
while True:
    n += 1
    with open('new%d' % n, 'wb') as f:
        f.write(b'%08d' % n * (1 << n % 16))
        if n % 4 == 0:
            f.flush()
            os.fsync(f.fileno())
            print(n, 'new%d' % n, file=log, flush=True)
    with open('journal', 'ab') as f:
        f.write(b'%08d' % n * 100)
    with open('random', 'r+b' if n > 1 else 'w+b') as f:
        f.seek(n * 7919 % 4000000)
        f.write(b'%08d' % n * 1000)
    if n % 4 == 1:
        os.rename('new%d' % n, 'renamed%d' % n)
    if n % 4 == 2:
        os.unlink('new%d' % n)
    if n % 48 == 3:
        os.makedirs('dir%d/in' % n)
        os.link('new%d' % n, 'dir%d/in/link' % n)
END
start_writer() {
	rm -rf "$mnt/busy/work"
	mkdir "$mnt/busy/work"
	: >"$TEST_TMP/notes"
	python3 "$TEST_TMP/writer.py" "$mnt/busy/work" "$TEST_TMP/notes" &
	writer=$!
	await 60 has_written 20
}
has_written() { [[ $(wc -l <"$TEST_TMP/notes") -ge $1 ]]; }
stop_writer() {
	kill "$writer"
	wait "$writer" 2>/dev/null || true
	writer=
}
# copy HOW FROM TO
copy() {
	rm -rf "$3"
	case $1 in
	rsync) rsync -a "$2/" "$3/" 2>/dev/null || [[ $? -eq 24 ]] ;; # 24: a file went meanwhile
	cp) cp -a "$2" "$3" 2>/dev/null || true ;;
	tar) mkdir "$3" && { tar -C "$2" -cf - . 2>/dev/null || true; } | tar -C "$3" -xf - ;;
	btrfs) btrfs subvolume snapshot -r "$2" "$3" >/dev/null ;;
	esac
}
# holds_notes COUNT DIR: the files in the first COUNT notes are there, whole.
holds_notes() {
	local n name
	while read -r n name; do
		expect "$(printf '%08d' "$n")" "$(head -c 8 "$2/$name")" "the beginning of $name in a copy"
		expect $((8 << n % 16)) "$(stat -c %s "$2/$name")" "the size of $name in a copy"
	done < <(head -n "$1" "$TEST_TMP/notes")
}

disk=$(make_loop_fs btrfs 1500M)
btrfs subvolume create "$disk/vol" >/dev/null
b=$disk/vol
make_volume "$b"
mount_volume "$b" "$mnt"
mkdir "$mnt/still" "$mnt/busy" "$replica"
for i in {1..200}; do
	mkdir -p "$mnt/still/d$((i % 7))"
	head -c $((i * 1000)) /dev/urandom >"$mnt/still/d$((i % 7))/f$i"
done
setfattr -n user.large -v "$(head -c 5000 /dev/zero | tr '\0' x)" "$mnt/still/d1"
truncate -s 1G "$mnt/still/sparse"
ln "$mnt/still/d1/f1" "$mnt/still/hard"
"$manifest" "$mnt/still" >"$TEST_TMP/still"
umount_volume "$mnt"
mount_volume "$b" "$mnt" # what was changed long ago is home

# ---- frozen: all copies are exactly the same state, with all that was synced; no changes get through ----
start_writer
"$COFFER" freeze "$mnt" --for 300
before=$(wc -l <"$TEST_TMP/notes")
find "$b" -newer "$b/coffer.volume" -type f -printf '%P %T@ %C@ %s\n' | sort >"$TEST_TMP/times"
# The log begins anew, with what is open and has no name.
"$COFFER" status "$mnt" --json | grep -qE '"log_bytes": [1-9][0-9]{2},' || fail "what the log of a frozen volume has: $("$COFFER" status "$mnt")"
for how in rsync cp tar btrfs; do
	copy $how "$b" "$disk/copy-$how"
done
"$manifest" "$mnt/still" | diff "$TEST_TMP/still" - || fail "reading while frozen"
find "$b" -newer "$b/coffer.volume" -type f -printf '%P %T@ %C@ %s\n' | sort | diff "$TEST_TMP/times" - || fail "the backing directory changed while frozen"
expect "$before" "$(wc -l <"$TEST_TMP/notes")" "files that were synced while frozen"
code 0 "$COFFER" thaw "$mnt"
await 60 has_written $((before + 10))
stop_writer
for how in rsync cp tar btrfs; do
	code 0 "$COFFER" fsck "$disk/copy-$how" --data
	mount_volume "$disk/copy-$how" "$replica" -o ro # beside the original
	"$manifest" "$replica" >"$TEST_TMP/state-$how"
	"$manifest" "$replica/still" | diff "$TEST_TMP/still" - || fail "what did not change, in a copy by $how"
	holds_notes "$before" "$replica/busy/work"
	refused touch "$replica/new"
	umount_volume "$replica"
	cmp "$TEST_TMP/state-rsync" "$TEST_TMP/state-$how" || fail "the copies by rsync and $how differ"
	ok
done
touch "$mnt/goes-on"
rm -rf "$disk"/copy-{rsync,cp,tar} # what is not yet on the disk would be written with the volume's next sync
btrfs subvolume delete "$disk/copy-btrfs" >/dev/null

# ---- a replica: brought near while changes go on, then exact; mounted elsewhere, with the keys, for writing ----
# rsync compares whole seconds, unless it is told otherwise: what changed in the second in which it was copied would stay as it was.
start_writer
for _ in 1 2 3; do
	rsync -aS --delete --modify-window=-1 "$b/" "$disk/replica/" || [[ $? -eq 24 ]]
	"$COFFER" freeze "$mnt"
	before=$(wc -l <"$TEST_TMP/notes")
	rsync -aS --delete --modify-window=-1 "$b/" "$disk/replica/"
	"$COFFER" thaw "$mnt"
	mount_volume "$disk/replica" "$replica" -o ro
	holds_notes "$before" "$replica/busy/work"
	umount_volume "$replica"
done
stop_writer
mkdir "$TEST_TMP/elsewhere"
chmod 700 "$TEST_TMP/elsewhere"
cp -a "$COFFER_STATE_DIR/keys" "$TEST_TMP/elsewhere/"
"$COFFER" mount "$disk/replica" "$replica" --state-dir "$TEST_TMP/elsewhere"
"$manifest" "$replica/still" | diff "$TEST_TMP/still" - || fail "what did not change, in a replica"
holds_notes "$before" "$replica/busy/work"
echo elsewhere >"$replica/new"
"$COFFER" umount "$replica" --state-dir "$TEST_TMP/elsewhere"
code 0 "$COFFER" fsck "$disk/replica" --data --state-dir "$TEST_TMP/elsewhere"

# ---- not frozen: a snapshot is as after a power cut; copies file by file mount, and have all that did not change ----
start_writer
before=$(wc -l <"$TEST_TMP/notes")
btrfs subvolume snapshot "$b" "$disk/live-btrfs" >/dev/null
for how in rsync cp tar; do
	await 60 has_written $((before + 20))
	copy $how "$b" "$disk/live-$how"
done
stop_writer
code 0 "$COFFER" fsck "$disk/live-btrfs" --data
mount_volume "$disk/live-btrfs" "$replica"
holds_notes "$before" "$replica/busy/work"
umount_volume "$replica"
for how in btrfs rsync cp tar; do
	mount_volume "$disk/live-$how" "$replica" -o ro
	"$manifest" "$replica/still" | diff "$TEST_TMP/still" - || fail "what did not change, in a live copy by $how"
	umount_volume "$replica"
	status=0
	"$COFFER" fsck "$disk/live-$how" --data >"$TEST_TMP/fsck-$how" || status=$?
	[[ $status -eq 0 || $status -eq 12 ]] || fail "fsck of a live copy by $how: exit code $status"
	say "live copy by $how: $(tail -n 1 "$TEST_TMP/fsck-$how")"
	mount_volume "$disk/live-$how" "$replica" # and it takes changes, under numbers of their own
	mkdir "$replica/made-later"
	for i in {1..50}; do echo $i >"$replica/made-later/$i"; done
	"$manifest" "$replica/still" | diff "$TEST_TMP/still" - || fail "what did not change, in a live copy by $how that was written to"
	umount_volume "$replica"
	ok
done

rm -rf "$disk"/live-{rsync,cp,tar}
btrfs subvolume delete "$disk/live-btrfs" >/dev/null

# ---- the time is over; a second freeze; not frozen; options ----
code 1 "$COFFER" thaw "$mnt"
said 'not frozen'
code 2 "$COFFER" freeze "$mnt" --for 0
code 2 "$COFFER" freeze "$mnt" --for soon
code 2 "$COFFER" freeze
code 14 "$COFFER" freeze "$disk/replica" --state-dir "$TEST_TMP/elsewhere"
code 0 "$COFFER" freeze "$mnt" --for 300
code 6 "$COFFER" freeze "$mnt"
"$COFFER" status "$mnt" | grep -q '^frozen' || fail "status does not tell that the volume is frozen"
code 0 "$COFFER" thaw "$mnt"
code 0 "$COFFER" freeze "$mnt" --for 1
echo late >"$mnt/late" # waits, and does not fail
expect late "$(cat "$mnt/late")" "a change that waited"
code 1 "$COFFER" thaw "$mnt"
said 'its time was over'

# ---- changes of every kind wait, and reads go on beside many of them ----
for i in {1..40}; do mkdir "$mnt/w$i" && echo old >"$mnt/w$i/file"; done
truncate -s 1M "$mnt/w1/large"
code 0 "$COFFER" freeze "$mnt" --for 300
waiting=()
for i in {1..30}; do
	echo new >"$mnt/w$i/made" &
	waiting+=($!)
done
for change in "mv $mnt/w31/file $mnt/w31/moved" "rm $mnt/w32/file" "ln $mnt/w33/file $mnt/w33/link" "ln -s x $mnt/w34/symlink" \
	"mkdir $mnt/w35/dir" "chmod 600 $mnt/w36/file" "setfattr -n user.a -v b $mnt/w37/file" "truncate -s 1 $mnt/w38/file" \
	"fallocate -p -o 4096 -l 8192 $mnt/w1/large" "mkfifo $mnt/w39/fifo" "dd if=/dev/zero of=$mnt/w40/file bs=4096 count=300 oflag=direct status=none"; do
	$change &
	waiting+=($!)
done
sleep 0.5
"$manifest" "$mnt/still" | diff "$TEST_TMP/still" - || fail "reading while many changes wait"
sync "$mnt/still/d1/f1" # all of it is durable
for pid in "${waiting[@]}"; do
	kill -0 "$pid" 2>/dev/null || fail "a change did not wait"
done
code 0 "$COFFER" thaw "$mnt"
for pid in "${waiting[@]}"; do
	wait "$pid" || fail "a change that waited failed"
done
expect 30 "$(cat "$mnt"/w*/made | grep -c new)" "files made by those who waited"
[[ -e $mnt/w31/moved && ! -e $mnt/w32/file && -L $mnt/w34/symlink && -d $mnt/w35/dir && -p $mnt/w39/fifo ]] || fail "changes that waited are not there"
expect "2 600 b 1 1228800" "$(stat -c %h "$mnt/w33/file") $(stat -c %a "$mnt/w36/file") $(getfattr --only-values -n user.a "$mnt/w37/file") $(stat -c %s "$mnt/w38/file") $(stat -c %s "$mnt/w40/file")" "changes that waited"
ok

# ---- open files without a name: they go in the copy, and in the volume once they are closed, although that was while frozen ----
echo gone >"$mnt/unlinked"
exec 7<"$mnt/unlinked"
rm "$mnt/unlinked"
code 0 "$COFFER" freeze "$mnt" --for 300
copy rsync "$b" "$disk/orphan"
expect gone "$(cat <&7)" "an open file without a name"
exec 7<&-
code 0 "$COFFER" thaw "$mnt"
mount_volume "$disk/orphan" "$replica" 2>"$TEST_TMP/out"
said '1 open files without a name removed'
umount_volume "$replica"
code 0 "$COFFER" fsck "$disk/orphan" --data
expect "" "$("$COFFER" fsck "$disk/orphan" | grep 'have no name')" "objects without a name in the copy"
expect "" "$("$COFFER" fsck "$mnt" | grep 'have no name')" "objects without a name in the volume"
ok

# ---- what ends a freeze: a scope that is locked, coffer umount, SIGTERM, SIGKILL; nothing that was acknowledged is lost ----
code 0 "$COFFER" freeze "$mnt" --for 300
echo waits >"$mnt/waits" &
waiter=$!
sleep 0.2
code 0 timeout 240 "$COFFER" key lock "$mnt"
refused cat "$mnt/still/hard"
wait "$waiter" || true # stored, or refused: its scope was locked
code 1 "$COFFER" thaw "$mnt"
said 'a scope was locked'
code 0 "$COFFER" key unlock "$mnt"
"$manifest" "$mnt/still" | diff "$TEST_TMP/still" - || fail "after a lock that ended a freeze"
for how in umount TERM KILL; do
	code 0 "$COFFER" freeze "$mnt" --for 300
	echo "$how" 2>/dev/null >"$mnt/before-$how" &
	waiter=$!
	sleep 0.3
	pid=$(daemon_pid "$mnt")
	case $how in
	umount)
		"$COFFER" thaw "$mnt" # its shell has the file open: what waits ends first
		wait "$waiter"
		"$COFFER" freeze "$mnt" --for 300
		code 0 timeout 240 "$COFFER" umount "$mnt"
		;;
	*)
		kill -"$how" "$pid"
		await 60 not is_mounted "$mnt"
		wait "$waiter" || true
		;;
	esac
	await 60 not kill -0 "$pid" 2>/dev/null
	[[ $how == KILL ]] || "$COFFER" status "$b" | grep -q 'unmounted cleanly' || fail "not clean after $how while frozen"
	code 0 "$COFFER" fsck "$b"
	mount_volume "$b" "$mnt"
	"$manifest" "$mnt/still" | diff "$TEST_TMP/still" - || fail "after $how while frozen"
	[[ $how == KILL || $(cat "$mnt/before-$how") == "$how" ]] || fail "a change that waited for the end by $how is lost"
	ok
done

# ---- a volume mounted read-only, and over io_uring ----
umount_volume "$mnt"
mount_volume "$b" "$mnt" -o ro
code 0 "$COFFER" freeze "$mnt"
code 0 "$COFFER" thaw "$mnt"
umount_volume "$mnt"
switch=/sys/module/fuse/parameters/enable_uring
was=$(cat "$switch" 2>/dev/null || true)
if [[ -w $switch ]]; then
	trap 'status=$?; printf %s "$was" >"$switch"; (exit $status); test_end' EXIT
	mount_volume "$b" "$mnt" -o uring=on
	code 0 "$COFFER" freeze "$mnt" --for 300
	waiting=()
	for i in 1 2 3; do
		echo ring >"$mnt/w$i/ring" &
		waiting+=($!)
	done
	sleep 0.3
	"$manifest" "$mnt/still" | diff "$TEST_TMP/still" - || fail "reading while frozen, over io_uring"
	code 0 "$COFFER" thaw "$mnt"
	for pid in "${waiting[@]}"; do wait "$pid" || fail "a change that waited failed, over io_uring"; done
	expect 3 "$(cat "$mnt"/w*/ring | wc -l)" "files made by those who waited, over io_uring"
	umount_volume "$mnt"
	ok
fi
code 0 "$COFFER" fsck "$b" --data
say "$good passed, 0 failed"
