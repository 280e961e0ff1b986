# shellcheck shell=bash
# A key server for the scripts in tests/kmip: certificates, servers, what its administrator does. To be read after ../lib.sh.
/usr/bin/python3 -c 'import kmip' 2>/dev/null || skip "no PyKMIP here: tools/setup test installs it"
here=$ROOT/tests/kmip
pki=$TEST_TMP/pki
mkdir -m 700 "$pki"

authority() { # NAME
	openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$pki/$1.key" -out "$pki/$1.pem" -subj "/CN=$1" \
		-days 2 2>/dev/null
}
# certificate NAME AUTHORITY COMMON_NAME DAYS EXTENSION...
certificate() {
	local name=$1 ca=$2 cn=$3 days=$4
	shift 4
	printf '%s\n' "$@" >"$pki/$name.ext"
	openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$pki/$name.key" -out "$pki/$name.csr" -subj "/CN=$cn" 2>/dev/null
	openssl x509 -req -in "$pki/$name.csr" -CA "$pki/$ca.pem" -CAkey "$pki/$ca.key" -CAcreateserial -days "$days" \
		-extfile "$pki/$name.ext" -out "$pki/$name.pem" 2>/dev/null
	chmod 600 "$pki/$name.key"
}
authority ca
certificate server ca "key server" 2 "subjectAltName=DNS:localhost,DNS:keys.test,IP:127.0.0.1" extendedKeyUsage=serverAuth
certificate client ca coffer 2 extendedKeyUsage=clientAuth

# settings CA CLIENT TIMEOUT: what the configuration says about KMIP.
settings() {
	printf 'key_poll = 1;\nkmip = { ca = "%s"; certificate = "%s"; key = "%s"; timeout = %d; };\n' "$pki/$1.pem" "$pki/$2.pem" "$pki/$2.key" "$3" \
		>"$COFFER_CONFIG"
}
settings ca client 10

# expect_state WANTED MNT WHAT: of the volume's own key, as its source was heard to say from now on.
expect_state() {
	local now got state checked i
	now=$(date +%s)
	for i in {1..400}; do
		got=$("$COFFER" key show "$2" --json)
		state=$(sed -n 's/.*"key_state": "\(.*\)".*/\1/p' <<<"$got")
		checked=$(sed -n 's/.*"last_check": \([0-9]*\).*/\1/p' <<<"$got")
		[[ $state != "$1" || $checked -le $now ]] || return 0
		sleep 0.1
	done
	fail "$3: wanted '$1', got '$state' after $i looks"
}

servers=()
# start_server NAME [OPTION...]: sets port and server (its pid). NAME is that of its certificate. All share their keys.
start_server() {
	local name=$1 out=$TEST_TMP/port.${#servers[@]}
	shift
	: >"$out"
	"$here/server.py" "$TEST_TMP/kmip.db" "$pki/$name.pem" "$pki/$name.key" "$pki/ca.pem" "$@" >"$out" 2>"$TEST_TMP/server.err" &
	server=$!
	servers+=("$server")
	for _ in {1..200}; do
		port=$(cat "$out")
		[[ -z $port ]] || return 0
		kill -0 "$server" 2>/dev/null || fail "the key server ended: $(cat "$TEST_TMP/server.err")"
		sleep 0.1
	done
	fail "the key server does not start"
}
stop_server() { # PID
	kill "$1" 2>/dev/null || true
	kill -CONT "$1" 2>/dev/null || true # one that is stopped
	wait "$1" 2>/dev/null || true
}
admin_port= # of the server that it talks to
admin() { "$here/admin.py" "$admin_port" "$pki/client.pem" "$pki/client.key" "$pki/ca.pem" "$@"; }
# new_key NAME [BITS]: an Active key; prints its identifier.
new_key() { admin make "$@"; }
test_cleanup() {
	local pid
	for pid in "${servers[@]}"; do stop_server "$pid"; done
}
