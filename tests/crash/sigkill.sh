#!/bin/bash
# The daemon is killed at random moments, again and again: nothing that it acknowledged is lost, nothing else ever shows,
# no repair is needed, and files that were open without a name are gone.
# timeout: 14400
. "$(dirname "$0")/../lib.sh"
[[ $(id -u) -eq 0 ]] || skip "needs root, to unmount what a killed daemon leaves"

driver=$COFFER_BUILD/tests/sigkill

# variant NAME SEED KILLS CREATE_OPTIONS DRIVER_OPTION...
variant() {
	local name=$1 seed=$2 kills=$3 create=$4 backing=$TEST_TMP/backing objects
	shift 4
	# shellcheck disable=SC2086 # options are words
	make_volume "$backing" $create
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
	rm -rf --one-file-system "$backing"
}

seeds=1 kills=15
[[ $COFFER_SCALE != full ]] || seeds="1 2 3" kills=60
# Other seeds than the usual ones: COFFER_SEEDS="7 8 9".
for seed in ${COFFER_SEEDS:-$seeds}; do
	variant "write-back cache" "$seed" "$kills" "" --writeback
	variant "no write-back cache" "$((seed + 1000))" "$kills" "" --options writeback=off
	variant "infrastructure encryption" "$((seed + 2000))" "$kills" --infrastructure --writeback
	variant "without integrity" "$((seed + 3000))" "$kills" "--integrity none" --options writeback=off
done
