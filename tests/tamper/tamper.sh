#!/bin/bash
# Whatever is changed in the backing directory: reading gives the truth or an error, what was not touched still reads, and
# nothing crashes or hangs. Most of it on the volume layer, without mounts; then the same on real ones.
# timeout: 900
. "$(dirname "$0")/../lib.sh"
b=$TEST_TMP/backing mnt=$TEST_TMP/mnt
passed=0 failed=0
driver_options=()
[[ $COFFER_SCALE != full ]] || driver_options+=(--full)

# ---- on the volume layer ----
# In memory where possible, and little of it, so that logs are small: thousands of volumes are opened, and nothing here is about
# syncing.
declare -A pids=()
suites=(gmac infrastructure none)
for suite in "${suites[@]}"; do
	mkdir "$TEST_TMP/$suite"
	[[ $(id -u) -ne 0 ]] || mount -t tmpfs -o size=500m tmpfs "$TEST_TMP/$suite"
	"$COFFER_BUILD/tests/tamper" --dir "$TEST_TMP/$suite" --suite "$suite" "${driver_options[@]}" \
		>"$TEST_TMP/$suite.log" 2>&1 &
	pids[$suite]=$!
done
for suite in "${suites[@]}"; do
	status=0
	wait "${pids[$suite]}" || status=$?
	if [[ $(tail -n 1 "$TEST_TMP/$suite.log") =~ ^([0-9]+)' passed, '([0-9]+)' failed'$ ]]; then
		passed=$((passed + BASH_REMATCH[1])) failed=$((failed + BASH_REMATCH[2]))
		say "$suite: $(head -n -1 "$TEST_TMP/$suite.log" | tail -n 20)"
	else
		cat "$TEST_TMP/$suite.log"
		fail "$suite: exit status $status"
	fi
	! mountpoint -q "$TEST_TMP/$suite" || umount "$TEST_TMP/$suite"
done

# ---- on mounts ----
DAMAGED=$(sed -n 's/.*EXIT_DAMAGED = \([0-9]*\).*/\1/p' "$ROOT/include/coffer/exit.h")
good() { passed=$((passed + 1)); }
wrong() {
	say "FAILED: $*"
	failed=$((failed + 1))
}
# object NAME, header NAME: its own file; the file that has its header, and where, as words.
object() {
	local number
	number=$(stat -c %i "$mnt/$1")
	printf '%s/objects/%03x/%03x' "$b" $((number >> 12)) $((number & 4095))
}
header() {
	local number
	number=$(stat -c %i "$mnt/$1")
	printf '%s/objects/%03x/headers %d\n' "$b" $((number >> 12)) $(((number & 4095) * 4096))
}
# flip FILE OFFSET: changes a byte.
flip() {
	local byte
	byte=$(od -An -tu1 -j "$2" -N 1 "$1")
	# shellcheck disable=SC2059
	printf "\\x$(printf %02x $((byte ^ 4)))" | dd of="$1" bs=1 seek="$2" conv=notrunc status=none
}
# page FILE OFFSET [FROM]: reads a page, or writes it.
page() {
	if [[ ${3:-} ]]; then
		dd if="$3" of="$1" bs=4096 seek=$(($2 / 4096)) conv=notrunc status=none
	else
		dd if="$1" bs=4096 skip=$(($2 / 4096)) count=1 status=none
	fi
}
# fresh NAME: its content, read past the kernel's cache.
fresh() { dd if="$mnt/$1" bs=65536 iflag=direct status=none; }
reads() { if [[ $(fresh "$1" | sha256sum) == "${sums[$1]}" ]]; then good; else wrong "$suite: $1 does not read, $2"; fi; }
errs() {
	local sum
	if sum=$(set -o pipefail; fresh "$1" 2>/dev/null | sha256sum); then
		[[ $sum == "${sums[$1]}" && ${3:-} == maybe ]] || wrong "$suite: $1 reads, $2"
	fi
	good
}
alive() {
	if timeout 60 "$COFFER" status "$mnt" >/dev/null && timeout 60 ls "$mnt" >/dev/null; then
		good
	else
		wrong "$suite: the daemon does not answer, $1"
	fi
}
damaged() {
	local status=0
	timeout 120 "$COFFER" fsck "$b" --data >"$TEST_TMP/fsck.log" 2>&1 || status=$?
	if [[ $status -eq $DAMAGED ]]; then good; else wrong "$suite: fsck ends with $status, $1: $(tail -n 1 "$TEST_TMP/fsck.log")"; fi
}

on_mounts() {
	local f
	make_volume "$b" "$@" >/dev/null
	mount_volume "$b" "$mnt"
	declare -gA sums=()
	for f in data header swapped1 swapped2 punched removed cut good1 good2 linked; do
		head -c 300000 /dev/urandom >"$mnt/$f"
		sums[$f]=$(sha256sum <"$mnt/$f")
	done
	mkdir "$mnt/dir" "$mnt/whole"
	for f in {1..120}; do
		: >"$mnt/dir/$(printf 'a file with a long name, of which one block holds a few, so that there are several %0100d' "$f")"
	done
	echo inside >"$mnt/whole/inside"
	umount_volume "$mnt"

	# While it is mounted.
	mount_volume "$b" "$mnt"
	reads data "before anything was changed"
	if [[ $suite != none ]]; then
		flip "$(object data)" $((4096 + 100))
		errs data "changed while mounted"
		alive "changed while mounted"
		damaged "changed while mounted"
	fi
	reads good1 "while another is damaged"
	local header swapped1 swapped2 punched removed cut linked dir whole good
	# Each the file and the place.
	read -ra header < <(header header)
	read -ra swapped1 < <(header swapped1)
	read -ra swapped2 < <(header swapped2)
	read -ra punched < <(header punched)
	read -ra whole < <(header whole)
	removed=$(object removed) cut=$(object cut) linked=$(object linked) dir=$(object dir) good=$(object good1)
	umount_volume "$mnt"

	# While it is not.
	flip "${header[0]}" $((header[1] + 120))
	page "${swapped1[@]}" >"$TEST_TMP/page1"
	page "${swapped2[@]}" >"$TEST_TMP/page2"
	page "${swapped1[@]}" "$TEST_TMP/page2"
	page "${swapped2[@]}" "$TEST_TMP/page1"
	fallocate -p -o "${punched[1]}" -l 4096 "${punched[0]}"
	rm "$removed"
	truncate -s 8192 "$cut"
	ln -f "$good" "$linked"
	flip "$dir" $((2 * 4096 + 7))
	flip "${whole[0]}" $((whole[1] + 70))
	mount_volume "$b" "$mnt"
	reads good1 "beside damage" && reads good2 "beside damage"
	errs header "header changed"
	errs swapped1 "header exchanged with another"
	errs swapped2 "header exchanged with another"
	errs punched "header punched"
	errs removed "removed"
	[[ $suite == none ]] || errs cut "cut off"
	errs linked "replaced by another file"
	if ls -l "$mnt/dir" >"$TEST_TMP/ls.log" 2>&1; then wrong "$suite: a damaged directory lists"; else good; fi
	if grep -v 'a file with a long name, of which\|Input/output\|cannot access\|^total' "$TEST_TMP/ls.log" >&2; then
		wrong "$suite: a damaged directory lists what is not there"
	fi
	if cat "$mnt/whole/inside" 2>/dev/null; then wrong "$suite: a way through a damaged directory"; else good; fi
	echo new >"$mnt/new" && [[ $(cat "$mnt/new") == new ]] && good
	alive "with damage everywhere"
	damaged "live"
	umount_volume "$mnt"
	damaged "not mounted"

	# After the daemon was killed, with noise for a log, and with what it needs to open replaced by what would keep it waiting.
	mount_volume "$b" "$mnt"
	head -c 200000 /dev/urandom >"$mnt/late"
	kill -KILL "$(daemon_of "$b")"
	for ((i = 0; i < 200; i++)); do
		mountpoint -q "$mnt" 2>/dev/null || [[ -e $mnt ]] || true
		grep -q " $mnt fuse.coffer " /proc/mounts || break
		sleep 0.05
	done
	! grep -q " $mnt fuse.coffer " /proc/mounts || umount -l "$mnt"
	for f in "$b"/log/segment*; do
		dd if=/dev/urandom of="$f" bs=4096 count=40 seek=1 conv=notrunc status=none
	done
	mount_volume "$b" "$mnt"
	reads good2 "after a noisy log"
	alive "after a noisy log"
	umount_volume "$mnt"
	for f in log/lock coffer.volume log/segment0 objects/000/headers objects/000; do
		mv "$b/$f" "$TEST_TMP/aside"
		mkfifo "$b/$f"
		for command in "fsck $b" "status $b" "mount $b $mnt"; do
			local status=0
			# shellcheck disable=SC2086 # words
			timeout 60 "$COFFER" $command >/dev/null 2>&1 || status=$?
			if [[ $status -eq 124 || $status -gt 128 ]]; then wrong "$suite: coffer $command: exit status $status, $f a FIFO"; else good; fi
			! mountpoint -q "$mnt" || umount_volume "$mnt"
		done
		rm -f "$b/$f"
		mv "$TEST_TMP/aside" "$b/$f"
	done
	mount_volume "$b" "$mnt"
	reads good1 "at the end"
	umount_volume "$mnt"
	rm -rf "$b"
}
for suite in "${suites[@]}"; do
	case $suite in
	gmac) on_mounts ;;
	infrastructure) on_mounts --infrastructure ;;
	none) on_mounts --integrity none ;;
	esac
done
say "$passed passed, $failed failed"
[[ $failed -eq 0 ]]
