#!/bin/bash
# A key that is taken away locks its scope: open files, mappings, names, memory; other scopes notice nothing, and it comes back.
# sanitize: yes
. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/common"
reader='' hold='' refer=''
test_cleanup() { # what a failure leaves running
	# shellcheck disable=SC2086
	kill $reader $hold $refer 2>/dev/null || true
}
make_team

head -c 3000000 /dev/urandom >"$TEST_TMP/content"
cp "$TEST_TMP/content" "$team/file"
cp "$TEST_TMP/content" "$mnt/other/file"
mkdir "$team/dir"
echo deep >"$team/dir/deep"
ln -s file "$team/link"
cp "$TEST_TMP/content" "$team/loose"
mv "$team/loose" "$mnt/loose" # keeps its scope where it goes
cp "$TEST_TMP/content" "$team/twice"
ln "$team/twice" "$mnt/twice"
touch -d 2011-11-11 "$team/twice"
twice=$(stat -c '%s %y %z %a %h %i' "$team/twice")

coproc HOLD { "$keyhole" hold "$team/file"; }
# shellcheck disable=SC2153
hold_in=${HOLD[1]} hold_out=${HOLD[0]} hold=$HOLD_PID
read -r answer <&"$hold_out"
ask_hold() {
	echo >&"$hold_in"
	read -r answer <&"$hold_out"
	printf '%s\n' "$answer"
}
expect 'read:ok fstat:ok map:ok write:ok open:ok' "$(ask_hold)" "an open file"

# Somebody else's scope is read all the time.
(while cmp "$mnt/other/file" "$TEST_TMP/content" && ls "$mnt/other" >/dev/null && stat "$mnt/other/file" >/dev/null; do sleep 0.05; done
	echo broken >"$TEST_TMP/broken") &
reader=$!

# Everything that a daemon needs to serve the file is found in its memory: so the search is known to work.
number=$(stat -c %i "$team/file")
"$keyhole" needles "$vault" "$COFFER_STATE_DIR" team "$number" >"$TEST_TMP/needles"
pid=$(daemon_of "$vault")
echo 1 >>"$team/dir/deep"
cat "$mnt/loose" >/dev/null
dd if="$TEST_TMP/content" of="$team/file" bs=4096 skip=10 seek=10 count=1 conv=notrunc,fsync status=none # the same once more
dd if="$team/file" of=/dev/null bs=4096 count=1 iflag=direct status=none
if [[ ! ${COFFER_SANITIZER:-} ]]; then # a sanitizer's memory has no end
	found=$("$keyhole" search "$pid" <"$TEST_TMP/needles")
	printf '%s\n' "$found"
	[[ $(wc -l <<<"$found") -eq 8 ]] || fail "there are $(wc -l <<<"$found") needles"
	! grep -q ' 0$' <<<"$found" || fail "not everything is in memory while the scope is open"
fi
# Written just now: in the kernel's cache only.
dd if=/dev/urandom of="$TEST_TMP/late" bs=1M count=4 status=none
cp "$TEST_TMP/late" "$team/late"
mv "$key" "$key.away"
began=$(date +%s%N)
eventually revoked state_of team
took=$((($(date +%s%N) - began) / 1000000))
[[ ${COFFER_SANITIZER:-} || $took -lt 6000 ]] || fail "it took $took ms"

expect 'read:EACCES fstat:EACCES map:SIGBUS write:EACCES open:EACCES' "$(ask_hold)" "an open file of a revoked scope"
denied cat "$team/file"
denied ls "$team"
denied stat "$team"
denied stat "$team/dir/deep"
denied touch "$team/new"
denied readlink -v "$team/link"
denied getfattr -d "$team"
denied mv "$team/file" "$mnt/file"
denied mv "$mnt/loose" "$mnt/elsewhere"
denied ln "$mnt/loose" "$mnt/more"
denied mv "$mnt/other/file" "$team/"
expect $'loose\nother\nteam\ntwice' "$(ls "$mnt")" "names in an open directory"
denied cat "$mnt/loose"
denied stat "$mnt/loose"
expect 'team revoked' "$("$COFFER" status "$mnt/loose" | sed -n 's/^\(scope\|key_state\) *//p' | paste -sd' ')" "the status of a locked file"
expect 'team revoked' "$("$COFFER" status "$team" --json | sed -nE 's/^ *"(scope|key_state)": "(.*)",?$/\2/p' | paste -sd' ')" "the status of a locked directory"
denied cat "$mnt/twice"
# Somebody goes on referring to it as it is seen now.
python3 -c 'import os, signal, sys; print(os.open(sys.argv[1], os.O_PATH), flush=True); signal.pause()' "$mnt/twice" >"$TEST_TMP/referred" &
refer=$!
until [[ -s $TEST_TMP/referred ]]; do kill -0 "$refer" && sleep 0.1; done
rm -f "$mnt/loose"
[[ ! -e $mnt/loose && $(ls "$mnt") == $'other\nteam\ntwice' ]] || fail "a locked file was not removed"
denied rm -f "$mnt/twice"
denied rmdir "$team"
"$COFFER" fsck "$mnt" --data

if [[ ! ${COFFER_SANITIZER:-} ]]; then
	found=$("$keyhole" search "$pid" <"$TEST_TMP/needles")
	printf '%s\n' "$found"
	! grep -v ' 0$' <<<"$found" || fail "keys are in memory although the scope is locked"
fi

mv "$key.away" "$key"
eventually active state_of team
expect 'read:ok fstat:ok map:ok write:ok open:ok' "$(ask_hold)" "an open file of a restored scope"
cmp "$team/late" "$TEST_TMP/late" || fail "what was written before was lost"
cmp "$team/file" "$TEST_TMP/content" || fail "the content changed"
expect 'deep 1' "$(paste -sd' ' "$team/dir/deep")" "a small file"
expect file "$(readlink "$team/link")" "a link"
# As it was seen while it was locked, it can still not be had.
denied cat "/proc/$refer/fd/$(cat "$TEST_TMP/referred")"
expect "$twice" "$(stat -c '%s %y %z %a %h %i' "$mnt/twice")" "what there is to know of a file that was looked at while it was locked"
cmp "$mnt/twice" "$TEST_TMP/content" || fail "the content of a file that was looked at while it was locked"
echo more >>"$mnt/twice"
cmp "$mnt/twice" <(cat "$TEST_TMP/content" && echo more) || fail "what was appended to a file that was looked at while it was locked"
rm "$mnt/twice"
kill "$refer"
wait "$refer" || true

# Another key in the same place, and one that others may read, are no keys either.
cp -p "$key" "$key.right"
new_key "$key"
eventually revoked state_of team
denied ls "$team"
cp -p "$key.right" "$key"
eventually active state_of team
chmod 644 "$key"
eventually revoked state_of team
chmod 600 "$key"
eventually active state_of team
ls "$team" >/dev/null

# By hand, and for longer than a mount.
"$COFFER" key lock "$mnt" --scope team
denied ls "$team"
sleep 2
expect locked "$(state_of team)" "a scope that was locked by hand"
"$COFFER" key unlock "$mnt" --scope team
ls "$team" >/dev/null
"$COFFER" scope disable "$mnt" team
denied cat "$team/file"
kill "$hold"
[[ ! -e $TEST_TMP/broken ]] || fail "another scope was disturbed"
kill "$reader"
wait "$reader" || true
for i in {1..100}; do # what the reader had started may take a moment to end
	! umount_volume "$mnt" 2>/dev/null || break
	[[ $i -lt 100 ]] || fail "the mount stays in use"
	sleep 0.1
done
mount_volume "$vault" "$mnt"
expect disabled "$(state_of team)" "a disabled scope after a new mount"
denied cat "$team/file"
"$COFFER" scope enable "$mnt" team
cmp "$team/file" "$TEST_TMP/content"

# Mounted without its key: locked, and open as soon as it is there.
umount_volume "$mnt"
mv "$key" "$key.away"
mount_volume "$vault" "$mnt"
denied ls "$team"
ls "$mnt/other" >/dev/null
mv "$key.away" "$key"
eventually active state_of team
cmp "$team/late" "$TEST_TMP/late"
umount_volume "$mnt"
"$COFFER" fsck "$vault" --data
