#!/bin/bash
# The life of a tenant's scope under a key of a real KMIP server, on a live mount, and each step once more with the daemon killed on the way.
# timeout: 900
. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/../keys/common"
. "$(dirname "$0")/lib.sh"
unset key team # not that folder's
manifest=$COFFER_BUILD/tests/manifest
plain=$TEST_TMP/plain tenant=$mnt/tenant
points=(0.03 0.3) rate=8
if [[ $COFFER_SCALE != ci ]]; then
	points=(0.01 0.02 0.03 0.05 0.08 0.1 0.15 0.2 0.3 0.5 0.8 1.2) rate=2
fi
settings ca client 5
background=()
started() { background+=("$!"); }
test_cleanup() { # instead of the servers' own
	local pid
	for pid in "${background[@]}" "${servers[@]}"; do stop_server "$pid"; done
}
step() { say "---- $* (${SECONDS} s)"; }

# ---- what the tenant has ----
mkdir -p "$plain/tree"
cp -a /usr/include/linux/a* /usr/include/linux/[n-s]*.h "$plain/tree"
head -c 3000000 /dev/urandom >"$plain/random"
ln "$plain/random" "$plain/hard link"
ln -s tree "$plain/link"
mkfifo "$plain/fifo"
truncate -s 1G "$plain/sparse"
for at in 0 300000 1000000; do
	head -c 20000 /dev/urandom | dd of="$plain/sparse" bs=1000 seek="$at" conv=notrunc status=none
done
: >"$plain/empty"
setfattr -n user.small -v value "$plain/random"
setfattr -n user.large -v "0x$(head -c 3000 /dev/urandom | xxd -p -c 0)" "$plain/tree"
chmod 2750 "$plain/tree"
touch -d '1999-12-31 23:59:59.987654321' "$plain/empty"
"$manifest" "$plain" >"$TEST_TMP/manifest"
bytes=$(du -sb --apparent-size "$plain/tree" | cut -f 1)
((bytes > 500000)) || fail "there is not much in /usr/include/linux: $bytes bytes"

# fill DIR: what is there already is written again.
fill() { cp -a --sparse=always "$plain/." "$1/"; }
same() { # DIR WHAT
	"$manifest" "$1" >"$TEST_TMP/now" || fail "$2: $1 cannot be read"
	diff "$TEST_TMP/manifest" "$TEST_TMP/now" >"$TEST_TMP/difference" || fail "$2: $1 differs: $(head -n 5 "$TEST_TMP/difference")"
}
whole() { # WHAT
	same "$tenant/content" "$1"
	same "$mnt/other" "$1"
}
key_field() { "$COFFER" key show "$mnt" --scope tenant --json | sed -n "s/^ *\"$1\": \"\?\([^\",]*\)\"\?,\?\$/\1/p"; }
sound() { # WHAT
	whole "$1"
	"$COFFER" fsck "$mnt" --data >"$TEST_TMP/fsck" 2>&1 || fail "$1: $(tail -n 5 "$TEST_TMP/fsck")"
	"$COFFER" audit verify "$vault" >"$TEST_TMP/audit" 2>&1 || fail "$1: $(tail -n 5 "$TEST_TMP/audit")"
}
mount_again() {
	local i
	for ((i = 0; i < 100; i++)); do # what was at work on the mount may take a moment to end
		"$COFFER" umount "$mnt" >/dev/null 2>&1 || true
		mountpoint -q "$mnt" || break
		sleep 0.1
	done
	mount_volume "$vault" "$mnt" 2>>"$TEST_TMP/log" || fail "not mounted after the daemon was killed"
}
# killed SECONDS COMMAND...: the command, and after that time the daemon is killed; mounted again.
killed() {
	local at=$1 pid work
	shift
	sync -f "$mnt"
	pid=$(daemon_of "$vault")
	("$@") >>"$TEST_TMP/log" 2>&1 &
	work=$!
	sleep "$at"
	kill -KILL "$pid"
	wait "$work" || true
	mount_again
}

# ---- a volume under the platform's key, and a scope under a key of the server ----
step create
for at in 0.005 "${points[@]}"; do
	"$COFFER" create "$TEST_TMP/killed" >/dev/null 2>&1 &
	pid=$!
	sleep "$at"
	kill -KILL "$pid" 2>/dev/null || true
	wait "$pid" || true
	if [[ -e $TEST_TMP/killed/coffer.volume ]]; then
		mount_volume "$TEST_TMP/killed" "$mnt"
		umount_volume "$mnt"
	fi
	rm -rf "$TEST_TMP/killed"
done
make_volume "$vault" >/dev/null 2>&1
mount_volume "$vault" "$mnt"
mkdir "$mnt/other"
fill "$mnt/other"
same "$mnt/other" "filled"

step scope create
start_server server
admin_port=$port
first=$(new_key tenant)
uri="kmip://localhost:$port/?name=tenant"
"$COFFER" scope create "$mnt" tenant --key "$uri"
expect "$first" "$(key_field key_id)" "the key of the new scope"
n=0
for at in "${points[@]}"; do
	killed "$at" "$COFFER" scope create "$mnt" "killed$((++n))" --key "$uri"
	"$COFFER" scope list "$mnt" | grep -qw "killed$n" || "$COFFER" scope create "$mnt" "killed$n" --key "$uri"
	same "$mnt/other" "after scope create was killed"
	"$COFFER" scope purge "$mnt" "killed$n"
done

step scope assign
mkdir "$tenant"
"$COFFER" scope assign "$tenant" tenant
expect tenant "$(getfattr --only-values -n user.coffer.scope "$tenant" 2>/dev/null)" "the scope of the directory"
step fill
mkdir "$tenant/content"
fill "$tenant/content"
expect tenant "$(getfattr --only-values -n user.coffer.scope "$tenant/content/tree/acct.h" 2>/dev/null)" "the scope of what is created"
sound "filled"
for at in "${points[@]}"; do
	mkdir "$tenant/again"
	killed "$at" fill "$tenant/again"
	fill "$tenant/again"
	same "$tenant/again" "after cp was killed after $at s"
	sound "after cp was killed after $at s"
	rm -rf "$tenant/again"
done
step scope assign, of what is there
for at in "${points[@]}"; do
	mkdir "$mnt/moved"
	fill "$mnt/moved"
	killed "$at" "$COFFER" scope assign "$mnt/moved" tenant --recursive
	"$COFFER" scope assign "$mnt/moved" tenant --recursive
	same "$mnt/moved" "after scope assign was killed after $at s"
	expect tenant "$(getfattr --only-values -n user.coffer.scope "$mnt/moved/random" 2>/dev/null)" "the scope of what was assigned"
	sound "after scope assign was killed after $at s"
	rm -rf "$mnt/moved"
done

# ---- the key is rotated on the server, the old one deactivated before anybody looked ----
step rotate
# rotate: sets `old` and `new`.
rotate() {
	local pid
	old=$(key_field key_id)
	pid=$(daemon_of "$vault")
	kill -STOP "$pid"
	new=$(admin make tenant -- deactivate "$old")
	kill -CONT "$pid"
}
rotate
eventually "$new" key_field key_id
whole "rotated"
for at in "${points[@]}"; do
	rotate
	killed "$at" sleep 0
	eventually "$new" key_field key_id
	eventually active state_of tenant
	sound "after the daemon was killed while it followed a new key, after $at s"
done
replace() { admin make tenant -- deactivate "$1" >"$TEST_TMP/new"; }
for at in "${points[@]}"; do
	killed "$at" replace "$(key_field key_id)"
	eventually "$(cat "$TEST_TMP/new")" key_field key_id
	eventually active state_of tenant
	sound "after the daemon was killed while the key was rotated, after $at s"
done

# ---- another version of the scope's own key, while it is written to ----
step reencrypt
live=$tenant/live
mkdir "$live" "$TEST_TMP/live"
# overwrite: until there is $TEST_TMP/enough, the same to both; what fails there is not done here.
overwrite() {
	local i=0 file at
	while [[ ! -e $TEST_TMP/enough ]]; do
		file=$((i % 5)) at=$((i * 7 % 40))
		head -c $((4096 + i * 101 % 30000)) /dev/urandom >"$TEST_TMP/piece"
		dd if="$TEST_TMP/piece" of="$live/$file" bs=4096 seek="$at" conv=notrunc status=none || return 1
		dd if="$TEST_TMP/piece" of="$TEST_TMP/live/$file" bs=4096 seek="$at" conv=notrunc status=none
		i=$((i + 1))
	done
	say "$i" >"$TEST_TMP/written"
}
# append: files of which each is there once it is synced; ends when the daemon does.
append() {
	local i
	for ((i = 0; ; i++)); do
		head -c $((1000 + i * 977 % 50000)) /dev/urandom >"$TEST_TMP/live/new$i"
		dd if="$TEST_TMP/live/new$i" of="$live/new$i" conv=fsync status=none 2>/dev/null || return 0
		say "$i" >>"$TEST_TMP/acknowledged"
	done
}
acknowledged() { # WHAT
	local i
	while read -r i; do
		cmp "$TEST_TMP/live/new$i" "$live/new$i" || fail "$1: new$i is not what was synced"
	done <"$TEST_TMP/acknowledged"
	rm -f "$live"/new* "$TEST_TMP/live"/new* "$TEST_TMP/acknowledged"
}
reencryption() { # FIELD: of the scope that is being rewritten
	"$COFFER" status "$mnt" --json | sed -n "/\"reencryption\"/,/}/s/^ *\"$1\": \([0-9]*\),\?\$/\1/p"
}
version=$(key_field dek_version)
overwrite &
writer=$!
started
"$COFFER" reencrypt "$mnt" --scope tenant --rate "$rate"
: >"$TEST_TMP/enough"
wait "$writer" || fail "a writer failed while its scope was rewritten"
(($(cat "$TEST_TMP/written") > 10)) || fail "next to nothing was written meanwhile"
expect $((version + 1)) "$(key_field dek_version)" "version of the scope's key"
diff -r "$TEST_TMP/live" "$live" || fail "what was written while it was rewritten differs"
sound "reencrypted"
expect '' "$(reencryption objects)" "objects that are still to be rewritten"
rm "$live"/* "$TEST_TMP/live"/*

for at in "${points[@]}"; do
	: >"$TEST_TMP/acknowledged"
	append &
	started
	writer=$!
	version=$(key_field dek_version)
	"$COFFER" reencrypt "$mnt" --scope tenant --rate 1 --no-wait # takes seconds
	for ((i = 0; i < 100; i++)); do
		[[ $(reencryption objects_done) -eq 0 ]] || break
		sleep 0.05
	done
	sleep "$at"
	[[ $(reencryption objects_done) -lt $(reencryption objects) ]] || fail "it was through before the daemon was killed"
	kill -KILL "$(daemon_of "$vault")"
	wait "$writer"
	mount_again
	acknowledged "killed while it was rewritten, after $at s"
	whole "killed while it was rewritten, after $at s"
	for ((i = 0; i < 100; i++)); do # it goes on by itself
		[[ $(reencryption objects_done) -eq 0 ]] || break
		sleep 0.05
	done
	[[ ! $(reencryption objects) ]] || "$COFFER" reencrypt "$mnt" --scope tenant # faster
	expect '' "$(reencryption objects)" "objects that are still to be rewritten"
	expect $((version + 1)) "$(key_field dek_version)" "version of the scope's key"
	sound "rewritten after it was killed, after $at s"
done

# ---- the server is away ----
step server away
stop_server "$server"
eventually unreachable state_of tenant
whole "served without a server"
start_server server --port "$port"
eventually active state_of tenant
whole "the server is back"
for at in "${points[@]}"; do
	stop_server "$server"
	killed "$at" whole "served without a server"
	expect unreachable "$(state_of tenant)" "mounted without a server"
	denied ls "$tenant"
	same "$mnt/other" "mounted without a server"
	start_server server --port "$port"
	eventually active state_of tenant
	sound "the server is back after the daemon was killed after $at s"
done

# ---- the key is revoked, and another of its name takes over ----
step revoke
(while cmp "$plain/random" "$mnt/other/random" && ls -l "$mnt/other" >/dev/null; do sleep 0.05; done
	say broken >"$TEST_TMP/broken") &
reader=$!
started
exec {open}<"$tenant/content/random"
old=$(key_field key_id)
admin deactivate "$old"
began=$(date +%s%N)
while cat "$tenant/content/random" >/dev/null 2>&1; do sleep 0.05; done
took=$((($(date +%s%N) - began) / 1000000))
((took < 4000)) || fail "a key that was revoked opened its scope for $took ms"
eventually revoked state_of tenant
denied ls "$tenant"
denied cat "$tenant/content/random"
denied dd bs=1 count=1 of=/dev/null <&"$open"
denied stat "$tenant/content/empty"
denied readlink -v "$tenant/content/link"
denied getfattr -d "$tenant/content/tree"
denied touch "$tenant/content/empty"
denied mv "$tenant/content" "$mnt/elsewhere"
denied mv "$mnt/other/empty" "$tenant/"
exec {open}<&-
same "$mnt/other" "while the tenant's key is revoked"
new=$(new_key tenant)
eventually active state_of tenant
whole "with another key"
[[ ! -e $TEST_TMP/broken ]] || fail "another scope was disturbed"
kill "$reader"
wait "$reader" || true
for at in "${points[@]}"; do
	eventually "$new" key_field key_id
	killed "$at" admin deactivate "$new"
	eventually revoked state_of tenant
	denied ls "$tenant"
	same "$mnt/other" "while the tenant's key is revoked"
	old=$new
	new=$(new_key tenant)
	eventually active state_of tenant
	sound "with another key, after the daemon was killed after $at s"
done
eventually "$new" key_field key_id

# ---- to a key file, and to the platform's key ----
step other sources
file=$TEST_TMP/tenant.key
(umask 077 && openssl rand -hex 32 >"$file")
for source in "file://$file" platform:; do
	"$COFFER" key set "$mnt" --scope tenant --key "$source"
	expect "$source" "$(key_field key_source)" "the key's source"
	whole "under $source"
done
for at in 0.005 0.01 "${points[@]}"; do
	for source in "$uri" "file://$file" platform:; do
		killed "$at" "$COFFER" key set "$mnt" --scope tenant --key "$source"
		"$COFFER" key set "$mnt" --scope tenant --key "$source"
		expect "$source" "$(key_field key_source)" "the key's source"
		whole "under $source, after the daemon was killed after $at s"
	done
done
stop_server "$server" # and nothing hangs on it any more
rm "$file"
umount_volume "$mnt"
mount_volume "$vault" "$mnt"
sound "under the platform's key alone"

# ---- the end ----
step audit
for event in volume-created scope-create scope-assign reencrypt deactivated-key-used key-wrapped scope-locked scope-unlocked key-set; do
	"$COFFER" audit show "$vault" --json 2>/dev/null | grep -qF "\"event\":\"$event\"" || fail "no event $event in the audit trail"
done
umount_volume "$mnt"
"$COFFER" fsck "$vault" --data
"$COFFER" audit verify "$vault"
id=$(sed -n 's/^volume = "\(.*\)";/\1/p' "$vault/coffer.volume")
sed -i '7s/"outcome":"/&not /' "$COFFER_STATE_DIR/audit/$id"-*/000000000001.jsonl
refused "$COFFER" audit verify "$vault" >/dev/null
say "the whole life of a tenant, in $SECONDS s"
