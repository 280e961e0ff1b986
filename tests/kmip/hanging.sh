#!/bin/bash
# A key server that accepts connections and says nothing delays neither the revocation of other scopes nor what is asked about them.
# sanitize: thread
. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/lib.sh"
mnt=$TEST_TMP/mnt b=$TEST_TMP/backing
settings ca client 5

start_server server
admin_port=$port good_port=$port
start_server server
stuck_port=$port stuck_server=$server
{
	read -r key
	read -r other
	read -r stuck
} < <(admin make good -- make other -- make stuck)
"$COFFER" create "$b" >/dev/null 2>&1
mount_volume "$b" "$mnt"
"$COFFER" scope create "$mnt" stuck1 --key "kmip://localhost:$stuck_port/$stuck"
"$COFFER" scope create "$mnt" stuck2 --key "kmip://127.0.0.1:$stuck_port/$stuck"
"$COFFER" scope create "$mnt" good --key "kmip://localhost:$good_port/$key"
"$COFFER" scope create "$mnt" other --key "kmip://127.0.0.1:$good_port/?name=other"
"$COFFER" scope create "$mnt" local --key platform:
"$COFFER" scope create "$mnt" gone --key "kmip://localhost:$stuck_port/$stuck"

now_ms() { echo $(($(date +%s%N) / 1000000)); }
limit=1
[[ ! ${COFFER_SANITIZER:-} ]] || limit=3
state_of() { "$COFFER" key show "$mnt" --scope "$1" --json | sed -n 's/^ *"key_state": "\(.*\)",\?$/\1/p'; }
# within SECONDS WANTED SCOPE: the scope is in that state by then.
within() {
	local began took
	began=$(now_ms)
	while [[ $(state_of "$3") != "$2" ]]; do
		took=$(($(now_ms) - began))
		((took < $1 * 1000)) || fail "scope $3 is $(state_of "$3"), not $2, after $took ms"
		sleep 0.05
	done
}
# quick COMMAND...: waits for no server.
quick() {
	local began took
	began=$(now_ms)
	"$@" >/dev/null
	took=$(($(now_ms) - began))
	((took < limit * 1500)) || fail "took $took ms: $*"
}

# ---- what is heard of a scope that was purged meanwhile says nothing of the one that has its number then ----
kill -STOP "$stuck_server"
sleep 2
"$COFFER" scope disable "$mnt" gone
"$COFFER" scope purge "$mnt" gone
"$COFFER" scope create "$mnt" young --key platform:
within 30 unreachable stuck1
within 30 unreachable stuck2
sleep 1
"$COFFER" audit show "$b" --json >"$TEST_TMP/trail" 2>/dev/null
! grep '"key-unreachable"' "$TEST_TMP/trail" | grep -q '"young"' || fail "a scope was taken for one that was purged"
kill -CONT "$stuck_server"
within 30 active stuck1
within 30 active stuck2

# ---- while it is mounted: the server is asked, and hangs for 5 s each time ----
stop_server "$stuck_server"
start_server server --port "$stuck_port" --silent
silent=$server
sleep 2.5
for ((i = 0; i < 3; i++)); do
	quick "$COFFER" key lock "$mnt" --scope local
	quick "$COFFER" key unlock "$mnt" --scope local
	quick "$COFFER" scope disable "$mnt" other
	quick "$COFFER" scope enable "$mnt" other
	sleep 0.7
done
quick "$COFFER" scope create "$mnt" new --key platform:
quick "$COFFER" key set "$mnt" --scope new --key "kmip://localhost:$good_port/$key"
quick "$COFFER" key rotate "$mnt" --scope local
admin deactivate "$key"
within $((2 * limit + 1)) revoked good
within $((2 * limit + 1)) revoked new
expect active "$(state_of other)" "another scope of that server"
# Even a scope of the server that hangs, where nothing is wanted of that.
quick "$COFFER" key lock "$mnt" --scope stuck2
expect locked "$(state_of stuck2)" "a scope that was locked while its server hangs"
within 30 unreachable stuck1
sleep 2
expect locked "$(state_of stuck2)" "a scope that was locked, after its server did not answer"
"$COFFER" key show "$mnt" --scope stuck1 --json | grep -q '"locked": false' || fail "a server that hangs has locked its scope"
admin deactivate "$other"
within $((2 * limit + 1)) revoked other

# ---- mounted while it hangs: its scopes are closed, and asked about again ----
umount_volume "$mnt"
another=$(admin make other) # the successor of the key that was deactivated
mount_volume "$b" "$mnt" 2>/dev/null
expect unreachable "$(state_of stuck1)" "a scope whose server hangs at the mount"
within $((2 * limit + 1)) active other
sleep 2
admin deactivate "$another"
within $((2 * limit + 1)) revoked other
stop_server "$silent"
start_server server --port "$stuck_port"
within 30 active stuck1
umount_volume "$mnt"
"$COFFER" audit verify "$b" >/dev/null
say "nobody waits for a server that hangs but its own scopes"
