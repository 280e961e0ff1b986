#!/bin/bash
# Key servers that are down, hang, drop idle connections, or are old; several of them.
# sanitize: address
. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/lib.sh"
mnt=$TEST_TMP/mnt b=$TEST_TMP/backing
mkdir "$mnt"
# fails_with TEXT COMMAND...: exit code 5, and a part of what it says.
fails_with() {
	local text=$1 status=0
	shift
	"$@" >"$TEST_TMP/out" 2>&1 || status=$?
	[[ $status -eq 5 && $(cat "$TEST_TMP/out") == *"$text"* ]] || fail "exit code $status: $* ($(cat "$TEST_TMP/out"))"
}
# Which port nobody listens on.
start_server server
down=$port
stop_server "$server"

start_server server
admin_port=$port first=$port first_server=$server
start_server server
second=$port second_server=$server
id=$(new_key vault)
settings ca client 2

# ---- the first is down from the beginning; then the second goes down and the first comes back; then both are down ----
"$COFFER" create "$b" --key "kmip://localhost:$down,localhost:$first,localhost:$second/$id" 2>"$TEST_TMP/out"
grep -q "localhost:$down cannot be used: Connection refused" "$TEST_TMP/out" || fail "the server that is down is not named"
mount_volume "$b" "$mnt"
expect_state active "$mnt" "state with the first server down"
stop_server "$first_server"
expect_state active "$mnt" "state after the server in use went down"
stop_server "$second_server"
expect_state unreachable "$mnt" "state with all servers down"
say "still served" >"$mnt/file"
start_server server --port "$first"
sleep 1.5 # no attempt right after one that failed
expect_state active "$mnt" "state after a server came back"
expect 0 "$("$COFFER" key show "$mnt" --json | sed -n 's/.*"open_until": \([0-9]*\).*/\1/p')" "when it is locked although a server came back"
umount_volume "$mnt"
mount_volume "$b" "$mnt"
expect "still served" "$(cat "$mnt/file")" "contents"

# ---- certificates are renewed while it is mounted, and are read for each connection ----
stop_server "$server"
mv "$pki/client.key" "$pki/kept.key"
start_server server --port "$first"
expect_state unreachable "$mnt" "state without a client's key"
mv "$pki/kept.key" "$pki/client.key"
sleep 1.5
expect_state active "$mnt" "state with the key again"
umount_volume "$mnt"

# ---- a server that accepts connections and says nothing, before the handshake or after ----
start_server server --silent
silent=$port
began=$(date +%s%N)
fails_with "localhost:$silent cannot be used: Connection timed out" "$COFFER" create "$TEST_TMP/x" --key "kmip://localhost:$silent/$id"
took=$((($(date +%s%N) - began) / 1000000))
((took >= 2000 && took < 6000)) || fail "the deadline of 2 s passed after $took ms"
"$COFFER" create "$TEST_TMP/past-silence" --key "kmip://localhost:$silent,localhost:$first/$id" 2>/dev/null
mount_volume "$b" "$mnt"
kill -STOP "$server" "${servers[-2]}"
expect_state unreachable "$mnt" "state while the server hangs"
kill -CONT "$server" "${servers[-2]}"
sleep 1.5
expect_state active "$mnt" "state after it woke up"
umount_volume "$mnt"

# ---- connections that somebody drops when they are idle ----
start_server server --idle 1
"$COFFER" create "$TEST_TMP/idle" --key "kmip://localhost:$port/$id"
mount_volume "$TEST_TMP/idle" "$mnt"
for _ in 1 2; do
	sleep 2
	expect_state active "$mnt" "state after the idle connection was dropped"
done
umount_volume "$mnt"

# ---- old versions ----
for version in 1.4 1.3,1.2 1.2; do
	start_server server --kmip "$version"
	"$COFFER" create "$TEST_TMP/v$version" --key "kmip://localhost:$port/$id"
	mount_volume "$TEST_TMP/v$version" "$mnt"
	umount_volume "$mnt"
	[[ $version == 1.4 ]] || fails_with "needs KMIP 1.4" "$COFFER" create "$TEST_TMP/x" --key "kmip://localhost:$port/$id?mode=remote"
done
start_server server --kmip 1.1,1.0
fails_with "cannot be used" "$COFFER" create "$TEST_TMP/x" --key "kmip://localhost:$port/$id"
[[ ! -e $TEST_TMP/x ]] || fail "a volume was left behind"
say "failover, deadlines, reconnection and old versions"
