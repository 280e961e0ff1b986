#!/bin/bash
# A confined daemon finds its key server by name, through a name server, and when there is none its deadline holds.
# alone: yes
[[ ${COFFER_IN_NETWORK:-} ]] || COFFER_IN_NETWORK=1 exec unshare --net --mount "$0" "$@"
. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/lib.sh"
ip link set lo up 2>/dev/null || skip "no ip command here"
mnt=$TEST_TMP/mnt b=$TEST_TMP/backing
say "nameserver 127.0.0.5" >"$TEST_TMP/resolv.conf"
mount --bind "$TEST_TMP/resolv.conf" /etc/resolv.conf

"$here/dns.py" >"$TEST_TMP/dns" &
dns=$!
servers+=("$dns")
for _ in {1..50}; do [[ -s $TEST_TMP/dns ]] || sleep 0.1; done
start_server server
admin_port=$port
id=$(new_key vault)

"$COFFER" create "$b" --key "kmip://keys.test:$port/$id"
mount_volume "$b" "$mnt"
expect_state active "$mnt" "state"
umount_volume "$mnt"

# The name server swallows questions: libc would wait for 10 s.
settings ca client 2
mount_volume "$b" "$mnt"
stop_server "$server"
kill -STOP "$dns"
began=$(date +%s%N)
expect_state unreachable "$mnt" "state without server and name server"
took=$((($(date +%s%N) - began) / 1000000))
((took < 6000)) || fail "the deadline of 2 s passed after $took ms"
kill -CONT "$dns"
start_server server --port "$port"
sleep 1.5
expect_state active "$mnt" "state with both again"
umount_volume "$mnt"
say "found by name, and in time"
