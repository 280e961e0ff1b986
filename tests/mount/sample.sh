#!/bin/bash
# Volumes that were made before still hold what they held: every kind of object, with all that there is to know of it.
# timeout: 300
. "$(dirname "$0")/../lib.sh"
[[ $(id -u) -eq 0 ]] || skip "needs root, for owners and devices"
. "$ROOT/tests/sample/lib.sh"
manifest=$COFFER_BUILD/tests/manifest
passed=0 failed=0 lines=0
check() { # WHAT COMMAND...
	local what=$1
	shift
	if "$@" >"$TEST_TMP/log" 2>&1; then
		passed=$((passed + 1))
	else
		say "FAILED: $what: $(head -n 20 "$TEST_TMP/log")"
		failed=$((failed + 1))
	fi
}
same() { # MANIFEST
	"$manifest" "$mnt" >"$TEST_TMP/manifest" && diff "$1" "$TEST_TMP/manifest"
}

mnt=$TEST_TMP/mnt
for archive in "$ROOT"/tests/sample/*.tar.gz; do
	version=$(basename "$archive" .tar.gz)
	work=$TEST_TMP/$version
	mkdir "$work"
	tar -C "$work" --no-same-owner -xpzSf "$archive"
	chmod 700 "$work/state"
	export COFFER_STATE_DIR=$work/state
	use_key "$work/key"
	for name in "${samples[@]}"; do
		what="$version, $name"
		wanted=${archive%.tar.gz}.$name.manifest
		lines=$((lines + $(wc -l <"$wanted")))
		check "$what: fsck" "$COFFER" fsck "$work/$name" --data
		mount_volume "$work/$name" "$mnt" -o ro
		check "$what: read-only" same "$wanted"
		umount_volume "$mnt"
		mount_volume "$work/$name" "$mnt" -o writeback=off
		check "$what: mounted" same "$wanted"
		# And it works: every file is written to, and as it was before after all.
		times=$(stat -c %Y.%y "$mnt")
		mkdir "$mnt/new"
		echo text >"$mnt/new/file"
		check "$what: a new file" grep -qx text "$mnt/new/file"
		rm -r "$mnt/new"
		touch -d "$(sed 's/^[0-9]*\.//' <<<"$times")" "$mnt"
		umount_volume "$mnt"
		check "$what: fsck after changes" "$COFFER" fsck "$work/$name" --data
		mount_volume "$work/$name" "$mnt" -o writeback=off
		check "$what: mounted again" same "$wanted"
		umount_volume "$mnt"
	done
	flock -u 9
done
say "$lines objects and names"
say "$passed passed, $failed failed"
[[ $failed -eq 0 && $passed -gt 0 ]]
