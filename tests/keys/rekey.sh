#!/bin/bash
# Objects move to other keys on a live mount while applications use them: nothing is lost or refused, the old key is gone from
# memory at the end, a lock in the middle keeps what was written, others are hardly held up; and what a purge changes shows at once.
# timeout: 900
. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/common"
busy=$ROOT/tests/keys/busy.py
background=()
test_cleanup() { # what a failure leaves running
	[[ ${#background[@]} -eq 0 ]] || kill "${background[@]}" 2>/dev/null || true
}
rounds=2 mib=48
[[ $COFFER_SCALE == ci ]] || rounds=20 mib=1024
make_team

scope_of() { getfattr --only-values -n user.coffer.scope "$1" 2>/dev/null; }
version_of() { # SCOPE
	"$COFFER" key show "$mnt" --scope "$1" --json | sed -n 's/^ *"dek_version": \([0-9]*\).*/\1/p'
}
milliseconds() { date +%s%3N; }

# ---- applications go on while their directory changes keys ----
mkdir "$mnt/busy"
coproc BUSY { python3 "$busy" work "$mnt/busy"; }
# shellcheck disable=SC2153
busy_pid=$BUSY_PID busy_in=${BUSY[1]} busy_out=${BUSY[0]}
background+=("$busy_pid")
sleep 1
for ((i = 0; i < rounds; i++)); do
	for scope in team default; do
		"$COFFER" scope assign "$mnt/busy" "$scope" --recursive
		expect "$scope" "$(scope_of "$mnt/busy/open")" "the scope of an open file"
		expect "$scope" "$(scope_of "$mnt/busy/database")" "the scope of a database"
		before=$(version_of "$scope")
		"$COFFER" reencrypt "$mnt" --scope "$scope"
		expect $((before + 1)) "$(version_of "$scope")" "the version of $scope's key"
	done
done
exec {busy_in}>&-
said=$(cat <&"$busy_out")
wait "$busy_pid" || fail "an application failed: $said"
background=()
say "applications did, while all changed keys $((rounds * 4)) times: $said"

# ---- the old key is gone ----
head -c $((mib << 20)) /dev/urandom >"$TEST_TMP/content"
cp "$TEST_TMP/content" "$team/large"
number=$(stat -c %i "$team/large")
pid=$(daemon_of "$vault")
use_keys() { # so that all that is derived is in memory
	sync -f "$mnt"
	dd if="$TEST_TMP/content" of="$team/large" bs=4096 skip=10 seek=10 count=1 conv=notrunc,fsync status=none # the same once more
	dd if="$team/large" of=/dev/null bs=1M count=1 iflag=direct status=none
}
"$keyhole" needles "$vault" "$COFFER_STATE_DIR" team "$number" >"$TEST_TMP/old"
use_keys
if [[ ! ${COFFER_SANITIZER:-} ]]; then # a sanitizer's memory has no end
	found=$("$keyhole" search "$pid" <"$TEST_TMP/old")
	! grep -q ' 0$' <<<"$found" || fail "not everything is in memory before: $found"
fi
"$COFFER" reencrypt "$mnt" --scope team
if [[ ! ${COFFER_SANITIZER:-} ]]; then
	found=$(grep -v ^KEK "$TEST_TMP/old" | "$keyhole" search "$pid")
	! grep -v ' 0$' <<<"$found" || fail "the old key is in memory still"
	"$keyhole" needles "$vault" "$COFFER_STATE_DIR" team "$number" >"$TEST_TMP/new"
	use_keys
	found=$("$keyhole" search "$pid" <"$TEST_TMP/new")
	! grep -q ' 0$' <<<"$found" || fail "not everything is in memory after: $found"
fi
cmp "$team/large" "$TEST_TMP/content" || fail "the content changed"

# ---- others are hardly held up; a rate is kept ----
read -r alone alone99 < <(python3 "$busy" latency "$mnt/other" 2)
(while [[ ! -e $TEST_TMP/enough ]]; do "$COFFER" reencrypt "$mnt" --scope team >/dev/null; done) &
again=$!
background+=("$again")
before=$(version_of team)
read -r beside beside99 < <(python3 "$busy" latency "$mnt/other" 3)
touch "$TEST_TMP/enough"
wait "$again"
background=()
say "fsync of 4 KiB: $alone us (99 %: $alone99 us), while all of a scope is rewritten, $(($(version_of team) - before)) times: $beside us ($beside99 us), $(awk "BEGIN { printf \"%.1f\", $beside / $alone }") times as long"
[[ $(version_of team) -gt $before ]] || fail "nothing was rewritten meanwhile"
[[ ${COFFER_SANITIZER:-} || $beside -lt 1000000 ]] || fail "others wait for a second"

rate=$((mib / 3))
began=$(milliseconds)
"$COFFER" reencrypt "$mnt" --scope team --rate $rate
took=$(($(milliseconds) - began))
say "$mib MiB at $rate MiB a second: $took ms"
[[ $took -ge 2500 ]] || fail "the rate was not kept"
[[ ${COFFER_SANITIZER:-} || $took -lt 15000 ]] || fail "far slower than the rate"

# ---- locked in the middle ----
coproc HOLD { "$keyhole" hold "$team/large"; }
# shellcheck disable=SC2153
hold_in=${HOLD[1]} hold_out=${HOLD[0]} hold=$HOLD_PID
background+=("$hold")
read -r answer <&"$hold_out"
ask_hold() {
	echo >&"$hold_in"
	read -r answer <&"$hold_out"
	printf '%s\n' "$answer"
}
closed='read:EACCES fstat:EACCES map:SIGBUS write:EACCES open:EACCES' open='read:ok fstat:ok map:ok write:ok open:ok'
before=$(version_of team)
"$COFFER" reencrypt "$mnt" --scope team --rate $((mib / 8)) --no-wait
sleep 1.5
dd if=/dev/urandom of="$TEST_TMP/late" bs=1M count=2 status=none
for at in 0 $((mib - 3)); do # on both sides of the border; in the kernel's cache only
	dd if="$TEST_TMP/late" of="$TEST_TMP/content" bs=1M seek=$at conv=notrunc status=none
	dd if="$TEST_TMP/late" of="$team/large" bs=1M seek=$at conv=notrunc status=none
done
mv "$key" "$key.away"
began=$(milliseconds)
eventually revoked state_of team
took=$(($(milliseconds) - began))
[[ ${COFFER_SANITIZER:-} || $took -lt 7000 ]] || fail "it took $took ms"
expect "$closed" "$(ask_hold)" "an open file of a scope that was revoked while it was rewritten"
denied cat "$team/large"
"$COFFER" status "$mnt" --json | grep -q '"reencryption"' || fail "it is done already"
mv "$key.away" "$key"
eventually active state_of team
expect "$open" "$(ask_hold)" "an open file of a restored scope"
cmp "$team/large" "$TEST_TMP/content" || fail "the content changed while the scope was locked in the middle"
"$COFFER" reencrypt "$mnt" --scope team
expect $((before + 1)) "$(version_of team)" "the version when it is through"
cmp "$team/large" "$TEST_TMP/content" || fail "the content changed"

# Between two scopes: either one.
"$COFFER" scope create "$mnt" second
# locked_between SCOPE SECONDS: assigns the file, and locks one of its scopes after that time. True: in the middle of it.
locked_between() {
	local middle=1 assigning
	"$COFFER" scope assign "$team/large" second >/dev/null 2>&1 &
	assigning=$!
	sleep "$2"
	"$COFFER" key lock "$mnt" --scope "$1"
	if ! wait "$assigning" && [[ $(ask_hold) == "$closed" ]]; then middle=0; fi
	"$COFFER" key unlock "$mnt" --scope "$1"
	expect "$open" "$(ask_hold)" "an open file between two scopes"
	cmp "$team/large" "$TEST_TMP/content" || fail "the content changed when $1 was locked"
	"$COFFER" scope assign "$team/large" second
	expect second "$(scope_of "$team/large")" "the scope in the end"
	cmp "$team/large" "$TEST_TMP/content" || fail "the content changed after $1 was locked"
	"$COFFER" scope assign "$team/large" team
	return $middle
}
for scope in team second; do
	for seconds in 0.1 0.05 0.2 0.15 0.08 0.3 never; do
		[[ $seconds != never ]] || fail "no lock of $scope came in the middle"
		! locked_between "$scope" $seconds || break
	done
done
kill "$hold"
background=()

# ---- what a purge changes shows at once ----
mkdir "$team/dir"
echo mine >"$team/dir/mine"
echo other >"$team/dir/other"
"$COFFER" scope assign "$team/dir/other" default
number=$(stat -c %i "$team/dir/other")
refused ls "$mnt/lost+found"
expect $'busy\nother\nteam' "$(ls "$mnt")" "names in the root"
links=$(stat -c %h "$mnt")
refused "$COFFER" scope purge "$mnt" team
"$COFFER" scope disable "$mnt" team
"$COFFER" scope purge "$mnt" team
expect "$number-other" "$(ls "$mnt/lost+found")" "what was rescued"
expect other "$(cat "$mnt/lost+found/$number-other")" "its content"
expect $'busy\nlost+found\nother' "$(ls "$mnt")" "names in the root"
expect "$links" "$(stat -c %h "$mnt")" "the root's link count: team went, lost+found came"
refused stat "$team"
umount_volume "$mnt"
"$COFFER" fsck "$vault" --data
