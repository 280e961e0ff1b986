#!/bin/bash
# Several threads do everything at once on one volume, without the kernel between: see tests/hammer/hammer.c.
# sanitize: yes
. "$(dirname "$0")/../lib.sh"

seconds=3
[[ $COFFER_SCALE != full ]] || seconds=60
TMPDIR=$TEST_TMP "$COFFER_BUILD/tests/hammer" "$seconds" || fail "hammer"
