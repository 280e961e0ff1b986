#!/bin/bash
# A Samba share on a mount, for users that are not the mount's owner: files, names in any case, NT ACLs, streams, DOS attributes,
# times, listings; and all of it is there after a remount.
# timeout: 600
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/samba_lib.sh"
good=0
ok() { good=$((good + 1)); }
# says USER COMMANDS TEXT: smbclient's answer has the text. refuses USER COMMANDS ERROR: it has that error.
says() {
	local out
	out=$(smb "$1" "$2" 2>&1) || true
	[[ $out == *"$3"* ]] || fail "$1: $2 did not say '$3' but: $out"
	ok
}
# acl USER FILE OPTION...: smbcacls
acl() {
	local user=$1 file=$2
	shift 2
	smbcacls -s "$samba/smb.conf" -U "$user%pw-$user" //127.0.0.1/vault "$file" "$@"
}
random() { head -c "$2" /dev/urandom >"$TEST_TMP/$1"; }

make_volume "$BACKING"
mount_volume "$BACKING" "$MNT"
share=$MNT/share
mkdir -m 777 "$share"
start_samba "$share"

# ---- files and names ----
random large 20000001
random small 100
smb alice 'put large Large.Bin; put small sub; del sub; mkdir Sub; put small Sub/small; get LARGE.bin back'
cmp "$TEST_TMP/large" "$TEST_TMP/back" && cmp "$TEST_TMP/large" "$share/Large.Bin" || fail "what was put is not what was got"
expect 20001:20001 "$(stat -c %u:%g "$share/Large.Bin")" "owner of alice's file"
says alice 'get sUB/SMALL again' "getting file"
cmp "$TEST_TMP/small" "$TEST_TMP/again" || fail "found by a name in another case, but other contents"
smb alice 'put small LARGE.BIN'
expect "Large.Bin Sub" "$(cd "$share" && echo *)" "one file of a name, whatever its case"
smb alice 'rename large.bin Renamed; rename sub/small Sub/Other'
says alice 'ls renamed' "100 "
smb alice 'del RENAMED; del sub/other; rmdir SUB'
expect "" "$(ls -A "$share")" "what is left when all is deleted"
ok

# ---- NT ACLs ----
smb alice 'put small secret; mkdir dir'
chmod 700 "$share/secret" "$share/dir"
says bob 'get secret no' NT_STATUS_ACCESS_DENIED
acl alice secret --add 'ACL:COFFERTEST\bob:ALLOWED/0x0/READ'
says bob 'get secret got' "getting file"
says bob 'put small secret' NT_STATUS_ACCESS_DENIED
getfacl -c "$share/secret" 2>/dev/null | grep -q '^user:.*:r' || fail "the mount does not know the ACL that Samba set"
acl alice dir --add 'ACL:COFFERTEST\bob:ALLOWED/OI|CI/READ'
smb alice 'put small dir/inherits; mkdir dir/deeper; put small dir/deeper/too'
says bob 'get dir/deeper/too got' "getting file"
smb alice 'put small denied'
acl alice denied --add 'ACL:Everyone:ALLOWED/0x0/READ'
acl alice denied --add 'ACL:COFFERTEST\bob:DENIED/0x0/READ'
says bob 'get denied no' NT_STATUS_ACCESS_DENIED
refused acl bob secret --add 'ACL:COFFERTEST\bob:ALLOWED/0x0/FULL'
acls() { for file in secret dir dir/deeper/too denied; do acl alice "$file"; done; }
acls >"$TEST_TMP/acls"
ok

# ---- streams, of up to what an extended attribute holds (Samba ends each with a byte of its own) ----
random stream 65535
smb alice 'put small streams'
for i in {1..7}; do smb alice "put stream streams:s$i" >/dev/null; done
says alice 'put stream streams:s8' NT_STATUS_DISK_FULL # half a MiB, a file's attributes have together
random other 5000
smb alice 'put other streams:S3; put small dir:stream'
streams() {
	local i
	for i in {1..7}; do
		smb alice "get streams:s$i got" >/dev/null 2>&1
		cmp "$TEST_TMP/got" "$TEST_TMP/$([[ $i == 3 ]] && echo other || echo stream)" || fail "stream $i"
	done
	says alice 'allinfo streams' 'stream: [:s7:$DATA], 65535 bytes'
	smb alice 'get dir:stream got' >/dev/null 2>&1
	cmp "$TEST_TMP/got" "$TEST_TMP/small" || fail "stream of a directory"
	cmp "$share/streams" "$TEST_TMP/small" || fail "contents of the file with streams"
}
streams

# ---- DOS attributes and times ----
smb alice 'put small attributes; setmode attributes +rsh; mkdir hidden; setmode hidden +h'
smb alice 'put small times; utimes times 2039:01:02-03:04:05 2105:06:07-08:09:10 2201:11:12-13:14:15 -1'
attributes() {
	says alice 'allinfo attributes' 'attributes: RHSA'
	says alice 'allinfo hidden' 'attributes: HD'
	smb alice 'allinfo times' >"$TEST_TMP/out"
	grep -q 'create_time:.*2039' "$TEST_TMP/out" && grep -q 'access_time:.*2105' "$TEST_TMP/out" &&
		grep -q 'write_time:.*2201' "$TEST_TMP/out" || fail "times past 2038: $(cat "$TEST_TMP/out")"
	expect 2201-11-12 "$(date -u -d "@$(stat -c %Y "$share/times")" +%F)" "a time as the mount has it"
}
attributes
smb alice 'put small ticks'
"$COFFER_BUILD/tests/smb" "$samba/smb.conf" smb://alice:pw-alice@127.0.0.1/vault/ticks "$share/ticks"
ok

# ---- locks: what a client of Samba has locked, a program on this machine has not ----
cat >"$TEST_TMP/try_lock" <<'END'
import fcntl, sys
file = open(sys.argv[1], "r+b")
try:
    fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, int(sys.argv[3]), int(sys.argv[2]))
    print("free", flush=True)
except OSError:
    print("taken", flush=True)
END
try_lock() { python3 "$TEST_TMP/try_lock" "$share/locked" "$@"; }
smb alice 'put large locked'
mkfifo "$TEST_TMP/commands"
(cd "$TEST_TMP" && stdbuf -oL smbclient -s "$samba/smb.conf" -U alice%pw-alice -m NT1 //127.0.0.1/vault <commands >said 2>&1) &
client=$!
exec {commands}>"$TEST_TMP/commands"
say posix >&"$commands" # one at a time: what came with another it does not see
retry 10 grep -q capabilities "$TEST_TMP/said"
say 'posix_open locked 0644' >&"$commands"
retry 10 grep -q fnum "$TEST_TMP/said" || fail "smbclient opened nothing: $(cat "$TEST_TMP/said")"
fnum=$(sed -n 's/.*fnum //p' "$TEST_TMP/said")
say "lock $fnum w 1000 10" >&"$commands"
retry 10 eval '[[ $(try_lock 4096 16) == taken ]]' || fail "a program gets what a client locked"
expect "free free" "$(echo "$(try_lock 4095 1) $(try_lock 4112 100)")" "bytes beside those that a client locked"
say "unlock $fnum 1000 10" >&"$commands"
retry 10 eval '[[ $(try_lock 0 0) == free ]]' || fail "a client does not give back what it locked"
exec {commands}>&-
wait "$client"
ok

# ---- listings while entries are deleted: what stays is there exactly once ----
smb alice 'mkdir many'
(cd "$share/many" && seq 1000 3999 | xargs touch && chown -R alice:alice .)
(cd "$share/many" && for i in $(seq 1000 2 3999); do rm "$i"; done) &
deleting=$!
rounds=0
while kill -0 "$deleting" 2>/dev/null || ((rounds < 3)); do
	smb alice 'cd many; ls' | sed -nE 's/^  ([0-9]+) .*/\1/p' | sort >"$TEST_TMP/listed"
	expect "" "$(uniq -d "$TEST_TMP/listed")" "names listed twice"
	expect "$(seq 1001 2 3999)" "$(grep '[13579]$' "$TEST_TMP/listed")" "names that stay"
	rounds=$((rounds + 1))
done
wait "$deleting"
expect 1500 "$(smb alice 'cd many; ls' | grep -cE '^  [0-9]+ ')" "names left"
smb bob 'cd many; del 1*' >/dev/null 2>&1 || true
expect 1500 "$(find "$share/many" -type f | wc -l)" "what bob may not delete"
smb alice 'deltree many'
[[ ! -e $share/many ]] || fail "deltree left something"
ok

# ---- all of it after a remount ----
stop_samba
umount_volume "$MNT"
mount_volume "$BACKING" "$MNT"
start_samba "$share"
acls | diff "$TEST_TMP/acls" - || fail "ACLs after a remount"
says bob 'get denied no' NT_STATUS_ACCESS_DENIED
says bob 'get dir/deeper/too got' "getting file"
streams
attributes
# ---- and after the daemon was killed under a running server, for clients that connect anew ----
kill_daemon
mount_volume "$BACKING" "$MNT"
acls | diff "$TEST_TMP/acls" - || fail "ACLs after the daemon was killed"
streams
attributes
stop_samba
umount_volume "$MNT"
"$COFFER" fsck "$BACKING" --data
say "$good passed, 0 failed"
