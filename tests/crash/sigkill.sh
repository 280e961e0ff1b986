#!/bin/bash
# The daemon is killed at random moments, again and again: nothing that it acknowledged is lost, nothing else ever shows,
# no repair is needed, and files that were open without a name are gone.
# timeout: 14400
. "$(dirname "$0")/../lib.sh"
[[ $(id -u) -eq 0 ]] || skip "needs root, to unmount what a killed daemon leaves"

driver=$COFFER_BUILD/tests/sigkill

# What is done with the backing directory before its first mount, and at the end.
before() { :; }
after() { :; }

# variant NAME SEED KILLS CREATE_OPTIONS DRIVER_OPTION...
variant() {
	local name=$1 seed=$2 kills=$3 create=$4 backing=$TEST_TMP/backing objects
	shift 4
	# shellcheck disable=SC2086 # options are words
	make_volume "$backing" $create
	before "$backing"
	mkdir -p "$TEST_TMP/mnt"
	say "$name:"
	"$driver" --coffer "$COFFER" --backing "$backing" --mnt "$TEST_TMP/mnt" --seed "$seed" --kills "$kills" "$@" \
		>"$TEST_TMP/driver.log" 2>&1 || {
		tail -n 40 "$TEST_TMP/driver.log"
		fail "$name, seed $seed"
	}
	tail -n 1 "$TEST_TMP/driver.log"
	# The workers have removed everything: what is left is the root, or an orphan that recovery forgot.
	objects=$(find "$backing/objects" -type f ! -name headers | wc -l)
	[[ $objects -le 1 ]] || fail "$name, seed $seed: $objects objects' files are left in an empty volume"
	objects=$(find "$backing/objects" -type f -name headers -exec cat {} + |
		perl -e 'my $n = 0; while (read STDIN, my $page, 4096) { $n++ if $page =~ /[^\0]/ } print $n')
	[[ $objects -eq 1 ]] || fail "$name, seed $seed: $objects headers are left in an empty volume"
	"$COFFER" fsck "$backing" --data || fail "$name, seed $seed: fsck"
	after "$backing"
	rm -rf --one-file-system "$backing"
}

# Another key all the time, and what there is goes in and out of a scope. What was assigned is counted in $1.
cat >"$TEST_TMP/beside" <<'END'
#!/bin/bash
mnt=$TEST_TMP/mnt scopes=(default team)
"$COFFER" reencrypt "$mnt" --scope "${scopes[RANDOM % 2]}" --no-wait
mapfile -t paths < <(find "$mnt" -mindepth 1 | shuf -n 4)
for path in "${paths[@]}"; do
	"$COFFER" scope assign "$path" "${scopes[RANDOM % 2]}" && echo >>"$1"
done
((RANDOM % 8)) || "$COFFER" scope assign "$mnt/w$((RANDOM % 3))" "${scopes[RANDOM % 2]}" --recursive
END
chmod 755 "$TEST_TMP/beside"
# moving NAME SEED CREATE_OPTIONS TEAM_OPTIONS DRIVER_OPTION...: the same while objects move to other keys all the time.
moving() {
	local name=$1 seed=$2 create=$3 team=$4 versions=''
	shift 4
	: >"$TEST_TMP/assigned"
	before() {
		mount_volume "$1" "$TEST_TMP/mnt"
		# shellcheck disable=SC2086 # options are words
		"$COFFER" scope create "$TEST_TMP/mnt" team $team
		umount_volume "$TEST_TMP/mnt"
	}
	after() { versions=$("$COFFER" status "$1" --json | sed -n 's/^ *"dek_version": \([0-9]*\).*/\1/p'); }
	variant "$name" "$seed" "$kills" "$create" --beside "$TEST_TMP/beside $TEST_TMP/assigned >/dev/null 2>&1" "$@"
	before() { :; }
	after() { :; }
	say "  versions of the scopes' keys: ${versions//$'\n'/, }; objects assigned: $(wc -l <"$TEST_TMP/assigned")"
	[[ $(wc -l <"$TEST_TMP/assigned") -ge 10 ]] || fail "$name, seed $seed: hardly anything was assigned"
	[[ $(sort -n <<<"$versions" | head -n 1) -ge 2 ]] || fail "$name, seed $seed: hardly any re-encryption came to its end"
}

seeds=1 kills=15
[[ $COFFER_SCALE != full ]] || seeds="1 2 3" kills=60
# Other seeds than the usual ones: COFFER_SEEDS="7 8 9".
for seed in ${COFFER_SEEDS:-$seeds}; do
	variant "write-back cache" "$seed" "$kills" "" --writeback
	variant "no write-back cache" "$((seed + 1000))" "$kills" "" --options writeback=off
	variant "infrastructure encryption" "$((seed + 2000))" "$kills" --infrastructure --writeback
	variant "without integrity" "$((seed + 3000))" "$kills" "--integrity none" --options writeback=off
	moving "moving to other keys" "$((seed + 4000))" "" --infrastructure --writeback
	[[ $COFFER_SCALE == full ]] || continue
	moving "moving to other keys, no write-back cache" "$((seed + 5000))" "--integrity none" "" --options writeback=off
done
