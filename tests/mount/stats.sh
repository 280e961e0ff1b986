#!/bin/bash
# What coffer stats counts is what was done, and its --prometheus is in Prometheus' format.
# sanitize: thread
. "$(dirname "$0")/../lib.sh"
b=$TEST_TMP/backing mnt=$TEST_TMP/mnt stats=$TEST_TMP/stats.json text=$TEST_TMP/stats.prom
good=0
# value PATH: a number of the last stats, for instance "operations write bytes".
value() { /usr/bin/python3 -c 'import functools, json, sys; print(functools.reduce(lambda o, k: o[int(k) if isinstance(o, list) else k], sys.argv[2:], json.load(open(sys.argv[1]))))' "$stats" "$@"; }
look() { "$COFFER" stats "$mnt" --json >"$stats"; }
# counted WANTED PATH...: a number that is exact.
counted() {
	local wanted=$1
	shift
	expect "$wanted" "$(value "$@")" "stats, $*"
	good=$((good + 1))
}
# some MIN PATH...: a number that is at least so large.
some() {
	local min=$1
	shift
	[[ $(value "$@") -ge $min ]] || fail "stats, $*: $(value "$@"), less than $min"
	good=$((good + 1))
}

make_volume "$b" >/dev/null 2>&1
mount_volume "$b" "$mnt"
look
counted 0 operations write count
counted 0 operations read count

# Written and read around the kernel's cache: as often, and as much, as is asked for. What a name's lookup finds or not is no error.
dd if=/dev/zero of="$mnt/file" bs=64k count=16 oflag=direct conv=fsync status=none
dd if="$mnt/file" of=/dev/null bs=128k iflag=direct status=none
[[ ! -e $mnt/missing ]]
mkdir "$mnt/dir"
refused rmdir "$mnt" 2>/dev/null
touch "$mnt/dir/inside"
ln "$mnt/file" "$mnt/dir/link"
mv "$mnt/file" "$mnt/other"
refused rmdir "$mnt/dir" 2>/dev/null
look
counted 16 operations write count
counted 1048576 operations write bytes
counted 0 operations write errors
counted 1048576 operations read bytes
some 8 operations read count
counted 1 operations rmdir errors
counted 1 operations link count
counted 1 operations rename count
counted 0 operations lookup errors
some 1 operations fsync count
some 1048576 ciphers seal_blocks bytes
some 1048576 ciphers open_blocks bytes
some 1 ciphers seal_blocks nanoseconds
counted 0 ciphers open_blocks errors
some 1 caches objects hits
some 1 store log_append count
some 1 store log_sync count
counted False store failed
counted active scopes 0 key_state

# A seek is answered by another thread than took it.
cp --sparse=always "$mnt/other" "$TEST_TMP/copy"
before=$(value operations lookup count)
/usr/bin/python3 -c 'import os, sys; f = os.open(sys.argv[1], os.O_RDONLY); [os.lseek(f, 0, os.SEEK_DATA) for i in range(5)]' "$mnt/other"
look
some 5 operations lseek count
[[ $(value operations lookup count) -le $((before + 2)) ]] || fail "seeks are counted as lookups"

# A block that was altered: the cipher says so.
"$COFFER" umount "$mnt"
object=$(find "$b/objects" -type f ! -name headers -size +1000k | head -n 1)
[[ $object ]] || fail "the file's object is not found"
printf 'x' | dd of="$object" bs=1 seek=500000 conv=notrunc status=none
mount_volume "$b" "$mnt"
refused cat "$mnt/other" >/dev/null 2>&1
look
some 1 ciphers open_blocks errors
some 1 operations read errors

# ---- for Prometheus ----
"$COFFER" key lock "$mnt"
"$COFFER" stats "$mnt" --prometheus >"$text"
cat >"$TEST_TMP/check.py" <<'END'
import sys
from prometheus_client.parser import text_string_to_metric_families
text, mount = open(sys.argv[1]).read(), sys.argv[2]
families = {f.name: f for f in text_string_to_metric_families(text)}
seen = set()
for family in families.values():
    assert family.name.startswith('coffer_') and family.documentation and family.type in ('counter', 'gauge', 'histogram'), family
    assert family.samples, family
    for s in family.samples:
        key = (s.name, tuple(sorted(s.labels.items())))
        assert key not in seen, key
        seen.add(key)
        assert s.labels['volume' if family.name == 'coffer_info' else 'mount'] and s.value >= 0, s
        assert s.labels['mount'] == mount, s
    if family.type == 'counter':
        assert all(s.name.endswith('_total') for s in family.samples), family
    if family.type == 'histogram':
        series = {}
        for s in family.samples:
            series.setdefault(s.labels.get('operation'), []).append(s)
        for samples in series.values():
            buckets = [(float(s.labels['le']), s.value) for s in samples if s.name.endswith('_bucket')]
            count = [s.value for s in samples if s.name.endswith('_count')]
            assert buckets == sorted(buckets) and buckets[-1] == (float('inf'), count[0]), buckets
            assert all(a[1] <= b[1] for a, b in zip(buckets, buckets[1:])), buckets
    # Of one piece: the samples of a family stand together, behind its HELP and TYPE.
    lines = [l for l in text.splitlines() if not l.startswith('#')]
    names = [l.split('{')[0] for l in lines]
    mine = [i for i, n in enumerate(names) if n in {s.name for s in family.samples}]
    assert mine == list(range(mine[0], mine[0] + len(mine))), family.name
assert text.endswith('\n')
states = {s.labels['state']: s.value for s in families['coffer_scope_state'].samples}
assert states['locked'] == 1 and sum(states.values()) == 1 and states['active'] == 0, states
assert families['coffer_scope_open'].samples[0].value == 0
failures = {s.labels['work']: s.value for s in families['coffer_cipher_failures'].samples}
assert failures['open_blocks'] >= 1, failures
print(len(seen))
END
samples=$(/usr/bin/python3 "$TEST_TMP/check.py" "$text" "$mnt") || fail "not what Prometheus takes"
[[ $samples -ge 300 ]] || fail "only $samples samples"
good=$((good + 1))
"$COFFER" key unlock "$mnt"

# ---- for people, and wrong calls ----
"$COFFER" stats "$mnt" >"$text"
grep -qE '^read +[0-9]+ +[0-9]+ ' "$text" || fail "no line about reads: $(cat "$text")"
! grep -q '^link ' "$text" || fail "a line about what did not happen: $(cat "$text")"
status=0
"$COFFER" stats "$mnt" --json --prometheus >/dev/null 2>&1 || status=$?
expect 2 "$status" "exit code of stats with two formats"
"$COFFER" umount "$mnt"
status=0
"$COFFER" stats "$b" >/dev/null 2>&1 || status=$?
expect 14 "$status" "exit code of stats of a volume that is not mounted"
good=$((good + 3))
say "$good passed, 0 failed"
