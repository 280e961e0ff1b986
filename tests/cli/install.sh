#!/bin/bash
# What meson install puts where, for a package: everything below DESTDIR, and no file of libfuse's.
. "$(dirname "$0")/../lib.sh"
dest=$TEST_TMP/dest
DESTDIR=$dest meson install -C "$COFFER_BUILD" --skip-subprojects --no-rebuild --quiet >"$TEST_TMP/install.log" 2>&1 ||
	fail "meson install failed: $(tail -n 5 "$TEST_TMP/install.log")"
expect "usr/local/bin/coffer
usr/local/lib/modprobe.d/coffer.conf
usr/local/lib/systemd/system/coffer@.service
usr/local/lib/tmpfiles.d/coffer.conf
usr/local/share/bash-completion/completions/coffer
usr/local/share/doc/coffer/examples/auto.coffer
usr/local/share/doc/coffer/examples/coffer.autofs
usr/local/share/doc/coffer/examples/coffer.conf
usr/local/share/man/man1/coffer.1
usr/local/share/man/man5/coffer-volume.5
usr/local/share/man/man5/coffer.conf.5
usr/local/share/man/man8/mount.coffer.8
usr/local/share/man/man8/mount.fuse.coffer.8
usr/local/share/zsh/site-functions/_coffer
usr/sbin/mount.coffer
usr/sbin/mount.fuse.coffer" "$(cd "$dest" && find . ! -type d -printf '%P\n' | LC_ALL=C sort)" "what is installed"
for helper in "$dest"/usr/sbin/mount.*; do
	[[ -x $dest$(readlink "$helper") ]] || fail "$helper leads nowhere: $(readlink "$helper")"
done
expect "$("$COFFER" --version)" "$("$dest/usr/local/bin/coffer" --version)" "version of what is installed"
# bash finds the completion by the command's name, and zsh by its own first line.
bash -c '. "$1" && complete -p coffer' - "$dest/usr/local/share/bash-completion/completions/coffer" >/dev/null || fail "no completion for bash"
expect "#compdef coffer" "$(head -n 1 "$dest/usr/local/share/zsh/site-functions/_coffer")" "first line of zsh's completion"
