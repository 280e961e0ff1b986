#!/bin/bash
# Volumes with keys on a real KMIP server (PyKMIP): by identifier and by name, fetched and remote, over TLS 1.2 and 1.3.
# sanitize: yes
. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/lib.sh"
good=0
ok() { good=$((good + 1)); }
# code WANTED TEXT COMMAND...: the exit code, and a part of what it says.
code() {
	local wanted=$1 text=$2 status=0
	shift 2
	"$@" >"$TEST_TMP/out" 2>&1 || status=$?
	[[ $status -eq $wanted ]] || fail "exit code $status instead of $wanted: $* ($(cat "$TEST_TMP/out"))"
	[[ $(cat "$TEST_TMP/out") == *"$text"* ]] || fail "does not say '$text': $* ($(cat "$TEST_TMP/out"))"
	ok
}
mnt=$TEST_TMP/mnt
mkdir "$mnt"

start_server server
admin_port=$port main=$port
id=$(new_key vault)

# ---- all four ways to name a key, in both versions of TLS: made, mounted, written, mounted again ----
for tls in 1.2 1.3; do
	start_server server --tls "$tls"
	for key in "$id" "?name=vault" "$id?mode=remote" "?name=vault&mode=remote"; do
		b=$TEST_TMP/$tls-${key//[?&]/-}
		"$COFFER" create "$b" --key "kmip://localhost:$port/$key"
		mount_volume "$b" "$mnt"
		say "$tls $key" >"$mnt/file"
		expect_state active "$mnt" "state of the key $key"
		umount_volume "$mnt"
		mount_volume "$b" "$mnt"
		expect "$tls $key" "$(cat "$mnt/file")" "contents after remount with $key"
		umount_volume "$mnt"
		grep -qF "key_id = \"$id\"" "$b/coffer.volume" || fail "the descriptor does not have the key's identifier"
		ok
	done
	stop_server "$server"
done
code 0 "" "$COFFER" create "$TEST_TMP/address" --key "kmip://127.0.0.1:$main/$id"

# ---- where a fetched key is: in locked memory; one that stays on its server is nowhere ----
bytes=$(head -c 32 /dev/urandom | od -An -v -tx1 | tr -d ' \n')
known=$(admin register known "$bytes")
admin activate "$known"
# A sanitizer's mlock does nothing.
for mode in "?mode=remote" ""; do
	[[ -z ${COFFER_SANITIZER:-} ]] || break
	b=$TEST_TMP/memory$mode
	"$COFFER" create "$b" --key "kmip://localhost:$main/$known$mode"
	mount_volume "$b" "$mnt"
	read -r locked other <<<"$("$here/find_key.py" "$(daemon_of "$b")" "$bytes")"
	if [[ $mode ]]; then
		expect "0 0" "$locked $other" "places where a key is that should be on its server only"
	else
		((locked > 0)) || fail "the key that is in use was not found: this test cannot find one"
		expect 0 "$other" "places outside of locked memory where the key is"
	fi
	"$COFFER" key lock "$mnt"
	expect "0 0" "$("$here/find_key.py" "$(daemon_of "$b")" "$bytes")" "places where a key is after key lock"
	"$COFFER" key unlock "$mnt"
	sleep 1.5 # the server is asked once more
	if [[ $mode ]]; then # rotated to a key elsewhere
		"$COFFER" key set "$mnt" --key platform:
	else
		admin deactivate "$known"
		expect_state revoked "$mnt" "state of a key whose bytes are known"
	fi
	expect "0 0" "$("$here/find_key.py" "$(daemon_of "$b")" "$bytes")" "places where a key is that is not used any more"
	umount_volume "$mnt"
	ok
done

# ---- who the server is ----
authority other-ca
settings other-ca client 10
code 5 "not to be trusted" "$COFFER" create "$TEST_TMP/x" --key "kmip://localhost:$main/$id"
settings ca client 10
certificate elsewhere ca "key server" 2 subjectAltName=DNS:elsewhere.test,IP:192.0.2.1 extendedKeyUsage=serverAuth
certificate expired ca "key server" -1 subjectAltName=DNS:localhost extendedKeyUsage=serverAuth
certificate no-server ca "key server" 2 subjectAltName=DNS:localhost extendedKeyUsage=clientAuth
start_server elsewhere
code 5 "hostname mismatch" "$COFFER" create "$TEST_TMP/x" --key "kmip://localhost:$port/$id"
code 5 "IP address mismatch" "$COFFER" create "$TEST_TMP/x" --key "kmip://127.0.0.1:$port/$id"
stop_server "$server"
start_server expired
code 5 "certificate has expired" "$COFFER" create "$TEST_TMP/x" --key "kmip://localhost:$port/$id"
stop_server "$server"
start_server no-server
code 5 "not to be trusted" "$COFFER" create "$TEST_TMP/x" --key "kmip://localhost:$port/$id"
stop_server "$server"

# ---- who we are ----
certificate no-client ca coffer 2 keyUsage=digitalSignature
certificate for-servers ca coffer 2 extendedKeyUsage=serverAuth
certificate stranger other-ca coffer 2 extendedKeyUsage=clientAuth
certificate another ca "somebody else" 2 extendedKeyUsage=clientAuth
settings ca no-client 10
code 5 "Error verifying the client certificate" "$COFFER" create "$TEST_TMP/x" --key "kmip://localhost:$main/$id"
settings ca for-servers 10
code 5 "alert unsupported certificate" "$COFFER" create "$TEST_TMP/x" --key "kmip://localhost:$main/$id"
settings ca stranger 10
code 5 "alert unknown ca" "$COFFER" create "$TEST_TMP/x" --key "kmip://localhost:$main/$id"
settings ca another 10
code 5 "Could not locate object" "$COFFER" create "$TEST_TMP/x" --key "kmip://localhost:$main/$id"
settings ca client 10
chmod 640 "$pki/client.key"
code 5 "mode 0600" "$COFFER" create "$TEST_TMP/x" --key "kmip://localhost:$main/$id"
chmod 600 "$pki/client.key"
: >"$COFFER_CONFIG"
code 5 "group kmip" "$COFFER" create "$TEST_TMP/x" --key "kmip://localhost:$main/$id"
settings ca client 10

# ---- which keys ----
code 5 "Could not locate object" "$COFFER" create "$TEST_TMP/x" --key "kmip://localhost:$main/4711"
code 5 "no symmetric key with the name nobody" "$COFFER" create "$TEST_TMP/x" --key "kmip://localhost:$main/?name=nobody"
idle=$(admin create idle)
code 5 "not Active but Pre-Active" "$COFFER" create "$TEST_TMP/x" --key "kmip://localhost:$main/$idle"
code 5 "no symmetric key with the name idle" "$COFFER" create "$TEST_TMP/x" --key "kmip://localhost:$main/?name=idle"
short=$(new_key short 128)
code 5 "not an AES key of 256 bits" "$COFFER" create "$TEST_TMP/x" --key "kmip://localhost:$main/$short"
code 5 "not an AES key of 256 bits" "$COFFER" create "$TEST_TMP/x" --key "kmip://localhost:$main/$short?mode=remote"
code 5 "is named by" "$COFFER" create "$TEST_TMP/x" --key "kmip://localhost:$main/"
[[ ! -e $TEST_TMP/x ]] || fail "a volume was left behind"

# ---- two keys of one name: made and newly looked for is refused; what is wrapped opens while its own key is Active ----
first=$(new_key twin)
for mode in "" "&mode=remote"; do
	"$COFFER" create "$TEST_TMP/twin$mode" --key "kmip://localhost:$main/?name=twin$mode"
done
second=$(new_key twin)
code 5 "several keys with the name twin are Active" "$COFFER" create "$TEST_TMP/x" --key "kmip://localhost:$main/?name=twin"
for mode in "" "&mode=remote"; do
	mount_volume "$TEST_TMP/twin$mode" "$mnt"
	expect_state unreachable "$mnt" "state while two keys have the name"
	umount_volume "$mnt"
done
mount_volume "$TEST_TMP/twin" "$mnt"
admin deactivate "$first"
expect_state active "$mnt" "state after the older one was deactivated"
"$COFFER" create "$TEST_TMP/newer" --key "kmip://localhost:$main/?name=twin"
grep -qF "key_id = \"$second\"" "$TEST_TMP/newer/coffer.volume" || fail "not made with the newer key"
umount_volume "$mnt"
grep -qF "key_id = \"$second\"" "$TEST_TMP/twin/coffer.volume" || fail "not wrapped by the newer key"
code 5 "decrypts nothing with it any more" "$COFFER" mount "$TEST_TMP/twin&mode=remote" "$mnt" # more about it: rotation.sh

# ---- taken away while it is mounted ----
for how in deactivate compromise; do
	for mode in "" "?mode=remote"; do
		gone=$(new_key gone)
		b=$TEST_TMP/$how$mode
		"$COFFER" create "$b" --key "kmip://localhost:$main/$gone$mode"
		mount_volume "$b" "$mnt"
		expect_state active "$mnt" "state before"
		admin "$how" "$gone"
		expect_state revoked "$mnt" "state after $how"
		umount_volume "$mnt"
		code 5 "not Active but" "$COFFER" mount "$b" "$mnt"
		admin destroy "$gone"
		code 5 "" "$COFFER" mount "$b" "$mnt"
	done
done

say "$good passed, 0 failed"
