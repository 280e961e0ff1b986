#!/bin/bash
# The fuzzers' corpora, replayed: bytes that no program of ours wrote, before every decoder of what lies in the backing directory.
# sanitize: yes
. "$(dirname "$0")/../lib.sh"

for corpus in "$ROOT"/tests/fuzz/corpus/*; do
	TMPDIR=$TEST_TMP "$COFFER_BUILD/tests/replay_${corpus##*/}" "$corpus" || fail "${corpus##*/}"
done
