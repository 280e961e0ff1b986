#!/bin/bash
# What the commands print, and their exit codes, are as in tests/golden. COFFER_GOLDEN_WRITE=1 writes those files anew.
# sanitize: yes
. "$(dirname "$0")/../lib.sh"
golden=$ROOT/tests/golden
good=0 bad=0

# Paths, ids, times and numbers that differ from run to run get names; what a slow disk adds goes.
normalise() {
	sed -E -e '/: unmounted; waiting for the daemon: /d' -e "s|$TEST_TMP|TMP|g" -e 's/platform-[0-9a-f]{16}/platform-ID/g' -e 's/\b[0-9a-f]{32}\b/ID/g' -e 's/\b[0-9a-f]{16}\b/KEY-ID/g' \
		-e 's/[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9:]{8} UTC/TIME/g' -e 's/infrastructure-[0-9a-f]{16}/infrastructure-ID/g' -e 's/by process [0-9]+/by process PID/' \
		-e 's/"(pid|created|last_rotation|state_since|last_check|next_check)": [0-9]+/"\1": NUMBER/' -e 's/, (io_uring|.dev.fuse), by/, TRANSPORT, by/' \
		-e 's/"transport": "[^"]*"/"transport": TRANSPORT/' -e 's/\b[0-9]{6}(-[0-9]{6})+/DIGITS/' -e 's|, [0-9.]+ [a-zA-Z]+/s\)|, RATE)|' -e 's/[0-9]+ (bytes, )[0-9]+ (pages)/N \1N \2/' \
		-e 's/\b[0-9a-f]{64}\b/MAC/g' -e 's/[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]+Z/TIME/' -e 's/\(process [0-9]+\)/(process PID)/' \
		-e 's/\bhost [^ ,]+,/host HOST,/' -e 's/"pid":[0-9]+/"pid":PID/' \
		-e 's/"(dirty_pages|log_bytes|objects_cached|epoch)": [0-9]+/"\1": N/'
}

# text NAME ARGUMENT...: what the command writes to both outputs, and its exit code.
text() {
	local name=$1 got status=0
	shift
	got=$(cd "$TEST_TMP" && "$COFFER" "$@" 2>&1) || status=$?
	got=$(normalise <<<"$got")$'\n'"exit code $status"
	if [[ ${COFFER_GOLDEN_WRITE:-} ]]; then
		printf '%s\n' "$got" >"$golden/$name.txt"
	elif diff -u "$golden/$name.txt" <(printf '%s\n' "$got"); then
		good=$((good + 1))
	else
		bad=$((bad + 1))
	fi
}

text help --help
text no-arguments
text version --version
text unknown-command frobnicate
text unknown-option create --frobnicate b
text missing-argument mount b
for command in create mount umount status stats scope key reencrypt fsck import freeze thaw audit; do
	text "help-$command" "$command" --help
done

text create-platform create b
text create-again create b
text create-infrastructure create i --infrastructure
text create-no-integrity create n --integrity none
text create-both create x --infrastructure --integrity none
text create-bad-integrity create x --integrity md5
head -c 32 /dev/urandom >"$TEST_TMP/key"
chmod 600 "$TEST_TMP/key"
text create-key-file create k --key "file://$TEST_TMP/key"
text create-key-missing create x --key "file://$TEST_TMP/nokey"
text create-key-unknown create x --key vault://here
mkdir "$TEST_TMP/full"
touch "$TEST_TMP/full/file"
text create-full create full

text status-unmounted status b
text status-key-file status k
text status-nothing status nowhere
text status-no-volume status full
text fsck-unmounted fsck b
text fsck-data fsck b --data
text fsck-no-volume fsck full
text fsck-repair fsck b --repair

mkdir "$TEST_TMP/mnt"
text audit-show audit show b
text audit-verify audit verify b
text audit-no-volume audit show full
text audit-usage audit frobnicate b
text mount mount b mnt
text mount-again mount b full
text status-mounted status mnt
text status-json status b --json
text status-file status mnt/.
: >"$TEST_TMP/mnt/f"
text status-object status mnt/f
text status-object-json status mnt/f --json
text fsck-live fsck mnt
text stats-both stats mnt --json --prometheus
text freeze freeze mnt --for 300
text freeze-again freeze mnt
text freeze-option freeze mnt --for ever
text thaw thaw mnt
text thaw-again thaw mnt
text freeze-no-volume freeze full
text scope-create scope create mnt team --key "file://$TEST_TMP/key"
text scope-again scope create mnt team
text scope-name scope create mnt 'a team'
text scope-second scope create mnt second --infrastructure
text scope-disable scope disable mnt team
text scope-list scope list mnt
text scope-list-json scope list mnt --json
text scope-enable scope enable mnt team
text scope-unknown scope disable mnt nobody
text scope-usage scope destroy mnt team
mkdir "$TEST_TMP/mnt/dir"
echo text >"$TEST_TMP/mnt/dir/file"
text scope-assign-deny scope assign mnt/dir team --deny-override
text scope-assign-recursive scope assign mnt/dir team --recursive --deny-override
text scope-assign-denied scope assign mnt/dir/file default
text scope-assign scope assign mnt team mnt/dir/file
text scope-assign-outside scope assign "$TEST_TMP" team
text scope-assign-nowhere scope assign mnt/nowhere team
text scope-assign-unknown scope assign mnt/dir nobody
text scope-purge-used scope purge mnt team
text scope-purge-default scope purge mnt default
"$COFFER" scope create "$TEST_TMP/mnt" third >/dev/null 2>&1
text scope-purge scope purge mnt third
text reencrypt reencrypt mnt --scope team --rate 100
text reencrypt-rate reencrypt mnt --rate fast
text reencrypt-unknown reencrypt mnt --scope nobody
text key-show key show mnt
text key-set key set mnt --scope team --key platform:
text key-set-missing key set mnt --scope team --key "file://$TEST_TMP/nokey"
text key-set-usage key set mnt --scope team
text key-rotate key rotate mnt
text key-rotate-infrastructure key rotate mnt --infrastructure
text key-lock key lock mnt --scope team
text key-locked key set mnt --scope team --key platform:
text key-unlock key unlock mnt --scope team
# Its source is asked soon, and has a newer version of the key.
for _ in {1..100}; do
	[[ $("$COFFER" key show "$TEST_TMP/mnt" --scope team) != *'version 2,'* ]] || break
	sleep 0.1
done
text key-provide-refused key provide mnt --scope team --ttl soon
text key-no-volume key show full
printf '%064d' 1 >"$TEST_TMP/provided"
text key-set-provided key set mnt --scope team --key provided: <"$TEST_TMP/provided"
text key-lock-provided key lock mnt --scope team
text key-unlock-provided key unlock mnt --scope team
printf '%064d' 2 >"$TEST_TMP/provided"
text key-provide-wrong key provide mnt --scope team <"$TEST_TMP/provided"
printf '%064d' 1 >"$TEST_TMP/provided"
text key-provide key provide mnt --scope team --ttl 1000 <"$TEST_TMP/provided"
printf 'no key' >"$TEST_TMP/provided"
text key-provide-text key provide mnt --scope team <"$TEST_TMP/provided"
text key-recovery key recovery mnt
text audit-show-live audit show mnt
text audit-show-json audit show mnt --json
text audit-verify-live audit verify mnt
text import import full mnt/full
text import-again import full mnt/full
text import-nowhere import full full/full
text umount umount mnt
text umount-again umount mnt

text mount-recovery-wrong mount b mnt -o recovery <"$TEST_TMP/provided"
text mount-no-backing mount nowhere mnt
text mount-no-volume mount full mnt
text mount-no-mountpoint mount b nowhere
text mount-on-file mount b full/file
text mount-inside mount b b/objects
text mount-bad-option mount b mnt -o ro,frobnicate
printf 'sync_intervall = 5;\n' >"$TEST_TMP/bad.conf"
text mount-bad-setting mount b mnt --config bad.conf
text mount-no-config mount b mnt --config none.conf
text mount-other-state mount b mnt --state-dir elsewhere
head -c 32 /dev/urandom >"$TEST_TMP/key"
text mount-wrong-key mount k mnt
chmod 644 "$TEST_TMP/key"
text mount-key-readable mount k mnt
rm "$TEST_TMP/key"
text mount-key-missing mount k mnt

[[ -z ${COFFER_GOLDEN_WRITE:-} ]] || skip "golden texts written"
say "$good passed, $bad failed"
[[ $bad -eq 0 && $good -gt 0 ]]
