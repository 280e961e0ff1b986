#!/bin/bash
# coffer import: a tree with everything in it arrives as it is; goes on after interruptions; notices what changes; lists what it cannot take.
# sanitize: address
# timeout: 600
. "$(dirname "$0")/../lib.sh"
mnt=$TEST_TMP/mnt b=$TEST_TMP/backing
manifest=$COFFER_BUILD/tests/manifest
good=0
ok() { good=$((good + 1)); }
busy=
test_cleanup() {
	# shellcheck disable=SC2086
	kill $busy 2>/dev/null || true
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
same() { # FROM TO: the two trees
	diff <("$manifest" "$1") <("$manifest" "$2") >"$TEST_TMP/diff" || fail "$1 and $2 differ: $(head -c 2000 "$TEST_TMP/diff")"
	ok
}

src=$(make_loop_fs xfs 600M)/src
mkdir "$src"
make_volume "$b"
mount_volume "$b" "$mnt"

# ---- everything that a tree can have ----
cd "$src"
mkdir -p dir/deep sticky acl "odd"$'\n'"name" empty
for size in 0 1 4095 4096 4097 65535 65536 65537 8388608 8388609 20000001; do
	head -c "$size" /dev/urandom >"dir/size-$size"
done
printf 'x%.0s' {1..255} | xargs touch
truncate -s 3G sparse
for at in 0 1 300 70000 700000; do
	head -c 5000 /dev/urandom | dd of=sparse bs=4096 seek="$at" conv=notrunc status=none
done
truncate -s 100000 hole
ln dir/size-4097 link
ln dir/size-4097 dir/deep/link
ln -s dir/size-1 symlink
ln -s /etc absolute
ln -s nowhere dangling
ln -s "$(printf 'long/%.0s' {1..190})" long-symlink
ln dangling dangling-too
mkfifo fifo
mknod null c 1 3
mknod block b 7 200
python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind("socket")'
chown -h 1234:5678 symlink fifo dir/size-1
chown 1000:1000 dir/size-4096
chmod 4755 dir/size-4096
chmod 2750 dir/deep
chmod 1777 sticky
chmod 0 dir/size-65535
setfattr -n user.small -v value dir/size-1
setfattr -n user.large -v "$(head -c 60000 /dev/zero | tr '\0' v)" dir/size-1
setfattr -n trusted.name -v secret dir
setfattr -h -n trusted.of-a-link -v value dangling
setfattr -n security.capability -v 0sAQAAAgAgAAAAAAAAAAAAAAAAAAA= dir/size-4097
setfacl -m u:1234:rwx,g:5678:r acl dir/size-0
setfacl -d -m u:1234:rwx,o::- acl
echo inherits >acl/inherits
long=$src
for i in {1..60}; do
	long=$long/level$i
	mkdir "$long"
	echo "$i" >"$long/file"
done
touch -d '2200-01-02 03:04:05.678901234' dir/size-1
touch -h -d '1971-02-03 04:05:06.789012345' symlink
touch -a -d '2001-01-01 01:01:01.123456789' dir/size-4095
touch -d '1999-12-31 23:59:59.999999999' dir/deep dir
cd "$TEST_TMP"

code 0 "$COFFER" import "$src" "$mnt/copy"
said 'copied and read back'
said ' 0 not taken'
expect "$(stat -c %x "$src/dir/size-4095")" "$(stat -c %x "$mnt/copy/dir/size-4095")" "time of the last access"
expect 2001-01-01 "$(stat -c %x "$src/dir/size-4095" | cut -c 1-10)" "the source's time of access"
same "$src" "$mnt/copy"
expect "$(stat -c %i "$mnt/copy/link")" "$(stat -c %i "$mnt/copy/dir/deep/link")" "hard links"
[[ $(du -k "$mnt/copy/sparse" | cut -f1) -lt 200 ]] || fail "a sparse file takes its whole size"

# ---- again: nothing is copied, nothing changes ----
"$manifest" "$mnt/copy" >"$TEST_TMP/before"
code 0 "$COFFER" import "$src/" "$mnt/copy/"
said '^0 copied'
"$manifest" "$mnt/copy" | cmp - "$TEST_TMP/before" || fail "a second import changed something"
umount_volume "$mnt"
code 0 "$COFFER" fsck "$b" --data
mount_volume "$b" "$mnt"

# ---- what changed since is taken, what is newer in the volume is kept; attributes alone ----
echo changed >"$src/dir/size-0"
touch -d 2300-01-01 "$src/dir/size-0"
rm "$src/dangling-too"
ln -s elsewhere "$src/new-link"
echo mine >"$mnt/copy/dir/size-4096"
touch -d 2300-01-01 "$mnt/copy/dir/size-4096"
chmod 711 "$src/dir/size-1"
touch -d 2100-01-01 "$src/dir/size-4097" # by one name of three
code 15 "$COFFER" import "$src" "$mnt/copy"
said 'not taken: .*/size-4096: something else'
said ' 1 not taken'
expect mine "$(cat "$mnt/copy/dir/size-4096")" "what was newer in the volume"
expect changed "$(cat "$mnt/copy/dir/size-0")" "what was newer in the source"
expect 711 "$(stat -c %a "$mnt/copy/dir/size-1")" "a mode that changed"
expect 3 "$(stat -c %h "$mnt/copy/link")" "hard links of what was copied again"
expect "$(stat -c %i "$mnt/copy/link")" "$(stat -c %i "$mnt/copy/dir/size-4097")" "a link to what was copied again"
[[ -L $mnt/copy/dangling-too ]] || fail "what went from the source went from the volume, too"
ok

# ---- interrupted, and killed: what is there is whole, and the rest follows ----
many=$TEST_TMP/many
mkdir "$many"
for i in {1..30}; do
	mkdir "$many/d$i"
	for j in {1..12}; do head -c $((i * j * 1000)) /dev/urandom >"$many/d$i/f$j"; done
	ln "$many/d$i/f1" "$many/d$i/again"
done
head -c 100000000 /dev/urandom >"$many/d20/large"
for signal in INT TERM KILL; do
	"$COFFER" import "$many" "$mnt/$signal" >"$TEST_TMP/out" 2>&1 &
	busy=$!
	for _ in {1..600}; do
		[[ ! -e $mnt/$signal || $(find "$mnt/$signal" | wc -l) -lt 60 ]] || break
		sleep 0.02
	done
	kill -"$signal" "$busy"
	status=0
	wait "$busy" || status=$?
	busy=
	[[ $signal == KILL || $status -eq 15 ]] || fail "exit code $status after SIG$signal: $(cat "$TEST_TMP/out")"
	[[ $signal == KILL ]] || said interrupted
	# Every file that has a name is whole.
	diff -rq "$many" "$mnt/$signal" | grep -v "^Only in $many" >"$TEST_TMP/diff" && fail "an interrupted import differs: $(cat "$TEST_TMP/diff")"
	code 0 "$COFFER" import "$many" "$mnt/$signal"
	there=$(sed -n 's/.*, \([0-9]*\) there before.*/\1/p' "$TEST_TMP/out")
	[[ $there -ge 50 ]] || fail "only $there objects were there after SIG$signal: $(cat "$TEST_TMP/out")"
	same "$many" "$mnt/$signal"
done

# ---- one file; into the root of the volume ----
code 0 "$COFFER" import "$src/dir/size-20000001" "$mnt/copy/empty"
cmp "$src/dir/size-20000001" "$mnt/copy/empty/size-20000001" || fail "one file"
code 0 "$COFFER" import "$many/d1" "$mnt"
cmp "$many/d1/f3" "$mnt/f3" || fail "into the root"

# ---- what cannot be taken, or changes meanwhile, is listed ----
odd=$TEST_TMP/odd
mkdir -p "$odd/mounted" "$odd/fine"
mount -t tmpfs none "$odd/mounted"
echo below >"$odd/mounted/file"
echo fine >"$odd/fine/file"
mkdir "$odd/changing"
python3 -c '
import sys, os
f = open(sys.argv[1], "wb", 0)
f.write(os.urandom(30000000))
while True:
    f.seek(5000); f.write(b"changing")' "$odd/changing/file" &
busy=$!
for _ in {1..200}; do
	[[ ! -e $odd/changing/file || $(stat -c %s "$odd/changing/file") -lt 30000000 ]] || break
	sleep 0.05
done
code 15 "$COFFER" import "$odd" "$mnt/odd"
kill "$busy"
wait "$busy" 2>/dev/null || true
busy=
said 'not taken: .*/odd/mounted: something is mounted there'
said 'not taken: .*/odd/changing/file: it is being changed'
[[ ! -e $mnt/odd/mounted && ! -e $mnt/odd/changing/file && -e $mnt/odd/fine/file ]] || fail "what was not to be taken, or was"
code 0 "$COFFER" import "$odd" "$mnt/odd" --across-mounts
expect below "$(cat "$mnt/odd/mounted/file")" "what is mounted below the source"
umount "$odd/mounted"
mkdir "$odd/volume"
mount --bind "$mnt" "$odd/volume"
code 15 "$COFFER" import "$odd" "$mnt/odd2" --across-mounts
said 'it is on the volume itself'
umount "$odd/volume"
user=(setpriv --reuid 65534 --regid 65534 --clear-groups)
chmod 755 "$TEST_TMP" "$mnt" "$odd"
mkdir "$mnt/users"
chown 65534:65534 "$mnt/users"
echo secret >"$odd/secret"
chmod 600 "$odd/secret"
code 15 "${user[@]}" "$COFFER" import "$odd" "$mnt/users/odd"
said 'not taken: .*/secret: Permission denied'
said 'not taken: .*/fine/file: owner: Operation not permitted'
expect fine "$(cat "$mnt/users/odd/fine/file")" "what a user could take"

# ---- a volume that does not give back what it was given; one that is full ----
if [[ -z ${COFFER_SANITIZER:-} ]]; then
	code 12 env LD_PRELOAD="$COFFER_BUILD/tests/spoil_write.so" SPOIL_SIZE=8388608 "$COFFER" import "$src/dir" "$mnt/spoiled"
	said 'does not give back'
	[[ ! -e $mnt/spoiled/size-8388608 ]] || fail "what was not given back has a name"
	code 0 "$COFFER" import "$src/dir" "$mnt/spoiled"
fi
small=$(make_loop_fs ext4 40M)
make_volume "$small/vol"
mount_volume "$small/vol" "$TEST_TMP/small"
code 11 "$COFFER" import "$many" "$TEST_TMP/small/many"
said 'No space left on device: stopped'
umount_volume "$TEST_TMP/small"
code 0 "$COFFER" fsck "$small/vol" --data

# ---- refused ----
code 2 "$COFFER" import "$src"
code 2 "$COFFER" import "$src/fifo" "$mnt/fifo"
code 2 "$COFFER" import "$mnt/copy" "$mnt/copy2"
code 1 "$COFFER" import "$TEST_TMP/nowhere" "$mnt/copy2"
code 1 "$COFFER" import "$src" "$mnt/nowhere/copy2"
code 14 "$COFFER" import "$src" "$TEST_TMP/copy2"
[[ ! -e $TEST_TMP/copy2 && ! -e $mnt/copy2 ]] || fail "a refused import made something"

# ---- at a terminal: rate, and time left ----
script -qec "$COFFER import $many $mnt/terminal" /dev/null >"$TEST_TMP/out" </dev/null
tr '\r' '\n' <"$TEST_TMP/out" | grep -qE '[0-9]+ of 421, .* of .*, .*/s, [0-9]+:[0-9]{2} left' || fail "no progress at a terminal: $(cat "$TEST_TMP/out")"
ok
umount_volume "$mnt"
code 0 "$COFFER" fsck "$b" --data
say "$good passed, 0 failed"
