# shellcheck shell=bash
# What the scripts in tests/mount/, tests/shares/, tests/kmip/, tests/crash/ and tests/tamper/ share. A script begins with
#   #!/bin/bash
#   # one line: what it shows
#   # sanitize: yes          (if it is worth running with both sanitizer builds; address or thread: with one of them)
#   # alone: yes             (if nothing else may run beside it)
#   # timeout: SECONDS       (if it may need more than ten minutes at scale ci)
#   . "$(dirname "$0")/../lib.sh"
# and exits with 0 (passed), 77 (skipped) or anything else (failed). If it counts cases of its own, its last line is
# "N passed, N failed". tools/test sets
#   COFFER        the program under test          COFFER_BUILD  the build directory that it comes from
#   TEST_TMP      a fresh directory on a disk     COFFER_SCALE  ci (a part, minutes) or full
#   COFFER_SANITIZER  -asan, -tsan or empty: which sanitizers the program is built with; it is then several times slower
# and a script run by hand gets useful values for them. A script may define test_cleanup, which runs at its end, however it ends.
# Keys and settings of the system are never touched.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../tools/lib.sh"

COFFER_BUILD=${COFFER_BUILD:-$ROOT/build}
COFFER=${COFFER:-$COFFER_BUILD/coffer}
COFFER_SCALE=${COFFER_SCALE:-ci}
TEST_TMP=${TEST_TMP:-$(mktemp -d "${TMPDIR:-/var/tmp}/coffer-test.XXXXXX")}
COFFER_STATE_DIR=$TEST_TMP/state
COFFER_CONFIG=$TEST_TMP/coffer.conf
export COFFER COFFER_BUILD COFFER_SCALE TEST_TMP COFFER_STATE_DIR COFFER_CONFIG
mkdir -p "$COFFER_STATE_DIR"
chmod 700 "$COFFER_STATE_DIR"
: >"$COFFER_CONFIG"

test_end() {
	local status=$?
	trap - EXIT
	if declare -F test_cleanup >/dev/null; then test_cleanup || true; fi
	clean_below "$TEST_TMP"
	rm -rf --one-file-system "$TEST_TMP"
	exit "$status"
}
trap test_end EXIT
trap 'exit 130' INT TERM

fail() {
	printf 'FAILED: %s\n' "$*"
	exit 1
}
skip() {
	printf 'skipped: %s\n' "$*"
	exit 77
}
# expect WANTED GOT WHAT: the two are the same text.
expect() { [[ $1 == "$2" ]] || fail "$3: wanted '$1', got '$2'"; }
# refused COMMAND...: the command fails. What it says goes to the test's log.
refused() { ! "$@" || fail "was not refused: $*"; }
# await SECONDS COMMAND...: the command succeeds within that time. A script may define why_not, which says more when it does not.
await() {
	local tries=$(($1 * 20))
	shift
	while ! "$@"; do
		((tries-- > 0)) || fail "never came true: $*$(! declare -F why_not >/dev/null || why_not)"
		sleep 0.05
	done
}
not() { ! "$@"; }

# make_volume BACKING [OPTION...]: a new volume; BACKING is made if it is not there.
make_volume() {
	mkdir -p "$1"
	"$COFFER" create "$@"
}
# mount_volume BACKING MNT [OPTION...]: MNT is made if it is not there.
mount_volume() {
	mkdir -p "$2"
	"$COFFER" mount "$@"
}
umount_volume() { "$COFFER" umount "$1"; }

# daemon_of BACKING: the pid of the daemon that serves BACKING.
daemon_of() {
	local pid
	for pid in $(daemons_below "$TEST_TMP"); do
		if tr '\0' '\n' <"/proc/$pid/cmdline" | grep -qxF -- "$1"; then
			printf '%s\n' "$pid"
			return
		fi
	done
	return 1
}

# What a mounted volume's status says of its daemon, and that of one which is not mounted of how it ended.
daemon_pid() { "$COFFER" status "$1" --json | sed -n 's/.*"pid": \([0-9]*\).*/\1/p'; }
is_clean() { "$COFFER" status "$1" | grep -q 'unmounted cleanly'; }

# make_loop_fs ext4|xfs|btrfs SIZE [MOUNT_OPTIONS]: a file system of its own, in an image; prints where it is mounted.
make_loop_fs() {
	local type=$1 size=$2 mount_options=${3:-defaults} image dir
	image=$(mktemp "$TEST_TMP/$type.XXXXXX")
	dir=$image.d
	truncate -s "$size" "$image"
	case $type in
	ext4) mkfs.ext4 -q -F "$image" ;;
	*) "mkfs.$type" -q -f "$image" >/dev/null ;;
	esac
	mkdir "$dir"
	mount -o "loop,$mount_options" "$image" "$dir"
	printf '%s\n' "$dir"
}
