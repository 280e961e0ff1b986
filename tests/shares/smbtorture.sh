#!/bin/bash
# Every test of Samba's own suite for file systems that passes on a native ext4 passes on a mount.
# timeout: 900
#
#   tests/shares/smbtorture.sh native >tests/shares/smbtorture-ext4.txt
#
# writes down anew what they say on ext4: the version, then "OUTCOME TEST" for each. Another version's are found out each time.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/samba_lib.sh"
suites=(smb2.create smb2.rename smb2.read smb2.rw smb2.dir smb2.getinfo smb2.setinfo smb2.acls smb2.streams smb2.lock
	smb2.delete-on-close-perms smb2.ea smb2.ioctl)
waiting=(smb2.timestamps base.delete) # these wait most of the time
native=$(dirname "$0")/smbtorture-ext4.txt
read -r version < <(smbtorture --version)

# outcomes TEST...: one line for each test that these are, or that are in them. What else they say goes to the log.
outcomes() {
	local test out
	out=$(mktemp "$TEST_TMP/torture.XXXXXX")
	for test; do
		timeout 300 smbtorture -s "$samba/smb.conf" -U alice%pw-alice --fullname //127.0.0.1/vault "$test" \
			</dev/null >"$out" 2>&1 || true
		sed -nE 's/ \[$//; s/^(success|failure|error|skip): /\1 /p' "$out"
		cat "$out" >&2
	done
}

all_outcomes() {
	outcomes "${waiting[@]}" &
	outcomes "${suites[@]}"
	wait
}

# share DIR: what is in DIR for alice is shared.
share() {
	mkdir "$1/share"
	chown 20001 "$1/share" # alice
	start_samba "$1/share" >&2
}

on_ext4() {
	share "$(make_loop_fs ext4 1G)"
	say "$version"
	all_outcomes 2>/dev/null | sort -k2
	stop_samba
}

if [[ ${1:-} == native ]]; then
	on_ext4
	exit 0
fi
if [[ $(sed -n 1p "$native") != "$version" ]]; then
	on_ext4 >"$TEST_TMP/native"
	native=$TEST_TMP/native
fi
grep ^success "$native" | sort >"$TEST_TMP/wanted"
good=0 bad=0
# on_mount MOUNT_OPTIONS CREATE_OPTION...: the same on a new volume.
on_mount() {
	local options=$1 test
	shift
	make_volume "$BACKING" "$@"
	mount_volume "$BACKING" "$MNT" -o "$options"
	share "$MNT"
	all_outcomes 2>"$TEST_TMP/log" | sort >"$TEST_TMP/found"
	good=$((good + $(comm -12 "$TEST_TMP/wanted" "$TEST_TMP/found" | wc -l)))
	while read -r test; do
		# Some of them measure time, which is not always theirs.
		if [[ $(outcomes "$test" 2>"$TEST_TMP/log") == "success "* ]]; then
			say "passed only when asked alone: $test"
			good=$((good + 1))
			continue
		fi
		say "FAIL $test, which passes on ext4:"
		grep -E -A 4 '^(failure|error|skip)' "$TEST_TMP/log" || tail -n 20 "$TEST_TMP/log"
		bad=$((bad + 1))
	done < <(comm -23 "$TEST_TMP/wanted" "$TEST_TMP/found" | sed 's/^success //')
	stop_samba
	umount_volume "$MNT"
	"$COFFER" fsck "$BACKING" --data
	rm -rf --one-file-system "$BACKING"
}
on_mount rw
[[ $COFFER_SCALE != full ]] || on_mount writeback=off --infrastructure
say "$good passed, $bad failed"
[[ $bad -eq 0 && $good -gt 0 ]]
