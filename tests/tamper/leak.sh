#!/bin/bash
# Nothing of what a volume holds shows outside of it: names, contents, targets, attributes, owners, numbers and keys are
# searched for in the backing directory at any time, the state directory, the logs and a core; and found in the control.
# timeout: 300
. "$(dirname "$0")/../lib.sh"
[[ $(id -u) -eq 0 ]] || skip "needs root, for owners and devices"
leak=$COFFER_BUILD/tests/leak
patterns=$TEST_TMP/patterns keys=$TEST_TMP/keys
passed=0 failed=0 searches=0
good() { passed=$((passed + 1)); }
wrong() {
	say "FAILED: $*"
	failed=$((failed + 1))
}

# ---- what is looked for ----
hex() { od -An -v -tx1 | tr -d ' \n'; }
# little WIDTH NUMBER, big WIDTH NUMBER: its bytes, in hexadecimal.
big() { printf "%0$((2 * $1))x" "$2"; }
little() { big "$1" "$2" | sed 's/../& /g' | tr ' ' '\n' | tac | tr -d '\n'; }
pattern() { printf '%s %s %s\n' "$1" "$2" "${3:-1}" >>"$patterns"; }
pattern_text() { pattern "$1" "$(printf %s "$2" | hex)"; }

uid=1588563217 gid=1603231999 acl_user=1511506142 acl_group=1524089531
major=427 minor=380654
seconds=7892939443 nanoseconds=837261945 later=8123456789
size=7434087
name=Kleinodienschrank folder=Geheimfach-unter-der-Treppe
line='In dieser Zeile steht, was niemand lesen soll.'
target=/home/anna/Verzeichnis-von-Wert/Schatzkarte.pdf
attribute=user.herkunft value='geerbt von der Urgrosstante in Meersburg'
# Repeats, so that a cipher that shows repetition is caught as well; and text that compresses.
make_patterns() {
	: >"$patterns"
	pattern_text name "$name"
	pattern_text folder "$folder"
	pattern_text line "$line"
	pattern_text target "$target"
	pattern_text attribute-name herkunft
	pattern_text attribute-value "$value"
	pattern_text long-attribute 'Anhang, seitenlang: '
	pattern_text long-target 'weit/unten/im/Baum/'
	pattern binary "$(head -c 64 "$TEST_TMP/random" | hex)"
	pattern binary-end "$(tail -c 48 "$TEST_TMP/random" | hex)"
	# Four bytes turn up by chance once in 4 GB: there are more than twenty objects that have them.
	pattern uid "$(little 4 $uid)" 6
	pattern gid "$(little 4 $gid)" 6
	pattern owner "$(little 4 $uid)$(little 4 $gid)"
	pattern acl-user "$(little 2 2)$(little 2 6)$(little 4 $acl_user)"
	pattern acl-group "$(little 2 8)$(little 2 5)$(little 4 $acl_group)"
	pattern device "$(little 8 $(((major & 4095) << 8 | (major & ~4095) << 32 | (minor & 255) | (minor & ~255) << 12)))"
	pattern seconds "$(little 8 $seconds)"
	pattern later "$(little 8 $later)"
	pattern nanoseconds "$(little 4 $nanoseconds)" 6
	pattern size "$(little 8 $size)"
}

lines() { awk -v line="$line" -v n="$1" 'BEGIN { while (n--) print line }'; }
make_tree() {
	local i dir=$1/$folder
	mkdir "$dir"
	for i in {1..25}; do
		lines 200 >"$dir/$name-$i"
	done
	cp "$TEST_TMP/random" "$dir/binary"
	truncate -s $size "$dir/sized"
	lines 5000 | dd of="$dir/sized" conv=notrunc bs=4096 seek=200 status=none
	ln -s $target "$dir/link"
	ln -s "$(printf 'weit/unten/im/Baum/%.0s' {1..100})" "$dir/long-link"
	ln "$dir/$name-1" "$dir/another-$name"
	mknod "$dir/device" b $major $minor
	mkfifo "$dir/$name.fifo"
	setfattr -n $attribute -v "$value" "$dir/$name-2" "$dir" "$dir/binary"
	setfattr -n user.long -v "$(printf 'Anhang, seitenlang: %.0s' {1..300})" "$dir/$name-3" 2>/dev/null || true
	setfacl -m "u:$acl_user:rw,g:$acl_group:rx" "$dir/$name-4"
	setfacl -d -m "u:$acl_user:rw,g:$acl_group:rx" "$dir"
	chown -h -R $uid:$gid "$dir"
	find "$dir" -exec touch -h -m -d "@$seconds.$nanoseconds" {} +
	find "$dir" -exec touch -h -a -d "@$later.$nanoseconds" {} +
}

# clean WHERE PATTERNS PATH...: nothing is found.
clean() {
	local where=$1
	shift
	searches=$((searches + 1))
	if "$leak" search "$@" >"$TEST_TMP/found.log"; then
		good
	else
		wrong "$where: $(cat "$TEST_TMP/found.log")"
	fi
}
# all_found WHERE PATTERNS PATH...: each pattern is found as it is.
all_found() {
	local where=$1 file=$2 label rest
	shift
	"$leak" search "$@" >"$TEST_TMP/found.log" || true
	while read -r label rest; do
		if grep -q "^found $label (plain)" "$TEST_TMP/found.log"; then good; else wrong "$where: the search does not find $label"; fi
	done <"$file"
}

# ---- one volume ----
check_sizes() {
	local odd
	odd=$(find "$b/objects" "$b/log" -type f -size +0 -printf '%s %P\n' | awk '$1 % 4096')
	if [[ -z $odd ]]; then good; else wrong "$variant: sizes that are not whole pages: $odd"; fi
}
# The log of a daemon that is killed holds the last words.
look_below() { # WHEN
	clean "$variant, $1, backing directory" "$patterns" "$b"
	clean "$variant, $1, keys in the backing directory" "$keys" "$b"
	clean "$variant, $1, state directory" "$patterns" "$COFFER_STATE_DIR"
	check_sizes
}

secret_memory() { # PID
	local limits
	limits=$(awk '/^Max core file size/ { print $5 $6 }' "/proc/$1/limits")
	expect 00 "$limits" "limit of a core"
	# The memory for keys: locked, left out of cores, wiped in children.
	if awk '/^[0-9a-f]+-[0-9a-f]+ / { size = 0 } /^Size:/ { size = $2 } /^VmFlags:/ && / lo/ && size >= 1024 {
			any = 1; if (!/ dd/ || !/ wf/) bad = 1 } END { exit !any || bad }' "/proc/$1/smaps"; then
		good
	else
		wrong "$variant: locked memory that a core would hold, or none"
	fi
}
core_of() { # PID: with a debugger, which may do what a crash may not
	command -v gcore >/dev/null || return 0
	if ! gcore -o "$TEST_TMP/core" "$1" >"$TEST_TMP/gcore.log" 2>&1; then
		wrong "$variant: gcore: $(tail -n 1 "$TEST_TMP/gcore.log")"
		return
	fi
	clean "$variant, a core by a debugger, keys" "$keys" "$TEST_TMP/core.$1"
	rm -f "$TEST_TMP/core.$1"
}

volume() { # VARIANT CREATE_OPTION...
	variant=$1
	local b=$TEST_TMP/backing mnt=$TEST_TMP/mnt log=$TEST_TMP/log pid i
	shift
	make_volume "$b" "$@" >"$log" 2>&1
	mkdir -p "$mnt"
	"$leak" keys "$b" "$COFFER_STATE_DIR" >"$keys"
	cat "$TEST_TMP/kek" >>"$keys"
	for i in "$COFFER_STATE_DIR"/keys/*.key; do
		[[ ! -e $i ]] || printf 'KEK-%s %s\n' "${i##*/}" "$(hex <"$i")" >>"$keys"
	done
	"$COFFER" mount -f "$b" "$mnt" >>"$log" 2>&1 &
	pid=$!
	for ((i = 0; i < 200; i++)); do
		! mountpoint -q "$mnt" || break
		sleep 0.05
	done
	make_tree "$mnt"
	cat "$mnt/$folder/binary" "$mnt/$folder/$name"-? >/dev/null
	secret_memory "$pid"
	look_below "while work goes on"
	sync -f "$mnt"
	look_below "while mounted, synced"
	core_of "$pid"
	"$COFFER" reencrypt "$mnt" --rate 1 --no-wait >>"$log" 2>&1
	"$leak" keys "$b" "$COFFER_STATE_DIR" >>"$keys"
	look_below "while all is rewritten under a new key"
	"$COFFER" reencrypt "$mnt" >>"$log" 2>&1
	sync -f "$mnt"
	look_below "rewritten under a new key"
	"$leak" dump "$mnt/$folder" >"$TEST_TMP/control"
	all_found "control of $variant" "$patterns" "$TEST_TMP/control"
	for i in {1..10}; do
		lines 2000 >"$mnt/$folder/last-$name-$i"
		mv "$mnt/$folder/last-$name-$i" "$mnt/$folder/moved-$name-$i"
	done
	kill -KILL "$pid"
	wait "$pid" 2>/dev/null || true
	for ((i = 0; i < 200; i++)); do
		grep -q " $mnt fuse.coffer " /proc/mounts || break
		sleep 0.05
	done
	! grep -q " $mnt fuse.coffer " /proc/mounts || umount -l "$mnt"
	look_below "killed"
	mount_volume "$b" "$mnt" >>"$log" 2>&1
	[[ $(head -n 1 "$mnt/$folder/moved-$name-10") == "$line" ]] || fail "$variant: what was written before the kill"
	rm "$mnt/$folder/$name-5" # of what is gone nothing shows either
	umount_volume "$mnt"
	look_below "unmounted"
	# Something to complain about: a block, and a header.
	printf 'x' | dd of="$b/objects/000/003" bs=1 seek=4200 conv=notrunc status=none
	printf 'x' | dd of="$b/objects/000/headers" bs=1 seek=$((4 * 4096 + 100)) conv=notrunc status=none
	"$COFFER" mount -f "$b" "$mnt" >>"$log" 2>&1 &
	pid=$!
	for ((i = 0; i < 200; i++)); do
		! mountpoint -q "$mnt" || break
		sleep 0.05
	done
	find "$mnt" -type f -exec cat {} + >/dev/null 2>&1 || true
	umount_volume "$mnt"
	wait "$pid" || true
	clean "$variant, what the daemon says" "$patterns" "$log"
	clean "$variant, what the daemon says of keys" "$keys" "$log"
	rm -rf "$b"
}

# ---- a crash ----
# With every limit lifted, and core dumps going to files, a killed shell leaves one, and the daemon none.
crash() {
	local b=$TEST_TMP/backing mnt=$TEST_TMP/mnt dir=$TEST_TMP/cores
	[[ $(cat /proc/sys/kernel/core_pattern) != [/\|]* ]] || {
		say "cores do not go to files here: not tried"
		return 0
	}
	mkdir "$dir"
	make_volume "$b" >/dev/null 2>&1
	(
		cd "$dir"
		ulimit -c unlimited
		mount_volume "$b" "$mnt"
		bash -c 'kill -SEGV $$' || true
	) >/dev/null 2>&1
	[[ -n $(ls "$dir") ]] || fail "the control left no core"
	rm -f "$dir"/*
	kill -SEGV "$(daemon_of "$b")"
	sleep 1
	if [[ -z $(ls "$dir") && -z $(find "$b" "$COFFER_STATE_DIR" -name 'core*') ]]; then good; else wrong "a crashed daemon leaves a core"; fi
	! grep -q " $mnt fuse.coffer " /proc/mounts || umount -l "$mnt"
	rm -rf "$b"
}

head -c 3000 /dev/urandom >"$TEST_TMP/random"
head -c 32 /dev/urandom >"$TEST_TMP/key"
chmod 600 "$TEST_TMP/key"
printf 'KEK-file %s\n' "$(hex <"$TEST_TMP/key")" >"$TEST_TMP/kek"
make_patterns

# What background daemons send to syslog, where nobody else listens.
listener=
if [[ ! -e /dev/log ]]; then
	"$leak" syslog /dev/log >"$TEST_TMP/syslog" &
	listener=$!
	trap 'kill "$listener" 2>/dev/null || true; rm -f /dev/log; test_end' EXIT
	while [[ ! -S /dev/log ]]; do sleep 0.05; done
fi
volume "key file" --key "file://$TEST_TMP/key"
grep -v ^KEK- "$keys" >"$TEST_TMP/own-keys"
clean "key file, state directory" "$TEST_TMP/own-keys" "$COFFER_STATE_DIR"
volume "infrastructure encryption" --infrastructure
volume "without integrity" --integrity none
crash
if [[ $listener ]]; then
	[[ -s $TEST_TMP/syslog ]] || fail "syslog: no daemon said anything"
	clean "syslog" "$patterns" "$TEST_TMP/syslog"
	clean "syslog, keys" "$keys" "$TEST_TMP/syslog"
fi

# That the keys would be found where they are: in a core of a process that does not protect them, and in the file.
cat "$TEST_TMP/kek" >"$keys"
if command -v gcore >/dev/null; then
	"$leak" hold "$TEST_TMP/key" >"$TEST_TMP/held" &
	holder=$!
	while [[ ! -s $TEST_TMP/held ]]; do sleep 0.05; done
	gcore -o "$TEST_TMP/core" "$holder" >/dev/null 2>&1 || fail "gcore of the control"
	kill "$holder"
	all_found "control, core" "$keys" "$TEST_TMP/core.$holder"
fi
all_found "control, key file" "$keys" "$TEST_TMP/key"
say "$searches searches"
say "$passed passed, $failed failed"
[[ $failed -eq 0 ]]
