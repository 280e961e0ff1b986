# shellcheck shell=bash
# What making the sample volumes and testing with them share.
# shellcheck disable=SC2034
samples=(gmac infrastructure none unclean)

# A volume names its key file by its absolute path, so there is one place for it.
sample_key=/var/tmp/coffer-sample.key
use_key() { # FILE
	exec 9>"$sample_key.lock"
	flock 9
	rm -f "$sample_key"
	install -m 600 "$1" "$sample_key"
	trap 'rm -f "$sample_key" "$sample_key.lock"; test_end' EXIT
}
