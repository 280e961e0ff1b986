# shellcheck shell=bash
# What the scripts in tools/ and tests/ share. Source it; it changes nothing but the shell's own state.
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

say() { printf '%s\n' "$*"; }
warn() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }
die() {
	warn "$*"
	exit 1
}
need_root() { [[ $(id -u) -eq 0 ]] || die "must be run as root, for instance with sudo"; }

# Runs a command as the owner of the source tree, so that a build made with sudo can be remade without.
as_owner() {
	local uid gid
	uid=$(stat -c %u "$ROOT") gid=$(stat -c %g "$ROOT")
	if [[ $(id -u) -eq 0 && $uid -ne 0 ]]; then
		HOME=/nonexistent setpriv --reuid "$uid" --regid "$gid" --clear-groups -- "$@"
	else
		"$@"
	fi
}

# build_into DIR [OPTION...]: sets DIR up, if it is not or with other options, and compiles.
build_into() {
	local dir=$1
	shift
	if [[ ! -e $dir/build.ninja ]]; then
		as_owner meson setup "$dir" "$ROOT" "$@"
	elif [[ $# -gt 0 ]]; then
		as_owner meson configure "$dir" "$@"
	fi
	as_owner meson compile -C "$dir"
}

# mounts_below DIR: mount points in DIR, the last mounted first. Reads the kernel's table only: a hung mount does not hang it.
mounts_below() { awk -v dir="$1/" 'index($5, dir) == 1 { print $5 }' /proc/self/mountinfo | tac; }

# daemons_below DIR: pids of Coffer daemons that were started with TEST_TMP at DIR or below it.
daemons_below() {
	local proc
	for proc in /proc/[0-9]*; do
		[[ $(readlink "$proc/exe" 2>/dev/null) =~ /coffer( \(deleted\))?$ ]] || continue
		tr '\0' '\n' 2>/dev/null <"$proc/environ" | grep -qE "^TEST_TMP=$1(/|\$)" && printf '%s\n' "${proc#/proc/}"
	done
	return 0
}

# clean_below DIR: unmounts all that is mounted in DIR and ends the daemons that serve it, whatever state they are in.
clean_below() {
	local dir=$1 mnt pid round
	for mnt in $(mounts_below "$dir"); do
		timeout 60 umount "$mnt" 2>/dev/null || true
	done
	for round in {1..50}; do # a daemon writes its last state after its unmount
		[[ -n $(daemons_below "$dir") ]] || break
		((round < 50)) && sleep 0.1
	done
	for pid in $(daemons_below "$dir"); do
		kill -KILL "$pid" 2>/dev/null || true
	done
	for mnt in $(mounts_below "$dir"); do
		timeout 60 umount "$mnt" 2>/dev/null || umount -l "$mnt" || true
	done
}

# ---- Debian source packages of a newer release than the machine's own ----

# The base of the archive that this machine installs from, and the keyring that it trusts for it.
debian_mirror() {
	apt-get indextargets --format "\$(LABEL)|\$(REPO_URI)" 'Created-By: Packages' | sed -n 's/^Debian|//p' | sed -n 1p
}
debian_keyring() {
	local ring
	for ring in /usr/share/keyrings/debian-archive-keyring.{pgp,gpg}; do
		[[ -e $ring ]] && printf '%s\n' "$ring" && return
	done
	return 1
}

# fetch_debian_dsc PACKAGE MIN_VERSION DIR SUITE...: downloads the source package (.dsc and what it names) from the first
# suite that has at least that version into the directory DIR. The lists of the system's apt are neither used nor changed;
# apt's signed index vouches for what is downloaded. Fails if no suite has it. With ORIG_SHA256 in the environment, that
# hash of upstream's tarball must match as well; then an index past its date, on a mirror that is no longer updated, will do.
fetch_debian_dsc() {
	local package=$1 min=$2 dir=$3 mirror ring suite version status=1
	shift 3
	local tmp options hashes
	mirror=$(debian_mirror) ring=$(debian_keyring) && [[ -n $mirror ]] || return 1
	tmp=$(mktemp -d /var/tmp/coffer-source.XXXXXX)
	options=(-q -o Dir::Etc::SourceList="$tmp/sources.list" -o Dir::Etc::SourceParts=/dev/null
		-o Dir::State::Lists="$tmp/lists" -o Dir::Cache="$tmp/cache" -o Acquire::Languages=none
		-o Acquire::AllowInsecureRepositories=false -o APT::Get::AllowUnauthenticated=false)
	[[ -z ${ORIG_SHA256:-} ]] || options+=(-o Acquire::Check-Valid-Until=false)
	mkdir -p "$tmp/lists/partial" "$tmp/cache/archives/partial" "$tmp/get"
	chmod 755 "$tmp"
	[[ $(id -u) -ne 0 ]] || chown -R _apt "$tmp/lists" "$tmp/cache" "$tmp/get" 2>/dev/null || true
	for suite in "$@"; do
		say "deb-src [signed-by=$ring] $mirror $suite main" >"$tmp/sources.list"
		apt-get "${options[@]}" --error-on=any update || continue
		version=$(apt-cache "${options[@]}" showsrc --only-source "$package" 2>/dev/null | sed -n 's/^Version: //p' | sort -V | tail -n1)
		dpkg --compare-versions "${version:-0}" ge "$min" || continue
		(cd "$tmp/get" && apt-get "${options[@]}" source --only-source --download-only "$package=$version") || continue
		hashes=$(sha256sum "$tmp/get/"*.orig.tar.*)
		[[ $hashes == *"${ORIG_SHA256:-}"* ]] || continue
		cp --no-preserve=ownership "$tmp/get/"* "$dir/"
		status=$?
		break
	done
	rm -rf "$tmp"
	return $status
}

# fetch_debian_source PACKAGE MIN_VERSION DIR SUITE...: the same, unpacked into DIR (which must not exist). Fails with DIR
# untouched.
fetch_debian_source() {
	local package=$1 min=$2 dir=$3 tmp status=1
	shift 3
	tmp=$(mktemp -d /var/tmp/coffer-unpack.XXXXXX)
	if fetch_debian_dsc "$package" "$min" "$tmp" "$@" &&
		dpkg-source --no-check --skip-patches -x "$tmp/"*.dsc "$tmp/unpacked" >/dev/null; then
		mkdir -p "$(dirname "$dir")" && cp -r --no-preserve=ownership "$tmp/unpacked" "$dir.part" && mv -T "$dir.part" "$dir"
		status=$?
	fi
	rm -rf "$tmp"
	return $status
}
