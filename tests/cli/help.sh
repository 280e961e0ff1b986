#!/bin/bash
# What --help names is what there is: each command's fits a screen, its options are those that the command takes, and the man pages and
# the completions for bash and zsh name the same.
. "$(dirname "$0")/../lib.sh"
good=0
ok() { good=$((good + 1)); }

mapfile -t commands < <("$COFFER" --help | sed -n 's/^  \([a-z]\+\)  .*/\1/p')
[[ ${#commands[@]} -ge 8 ]] || fail "only these commands in coffer --help: ${commands[*]}"

# options_of COMMAND: the options that its help describes, each by its name alone.
options_of() { "$COFFER" "$1" --help | sed -nE 's/^  (--?[a-z-]+)( .*)?$/\1/p' | sort -u; }
# options_in TEXT: those of a usage.
options_in() { sed -E 's/[][|]/ /g; s/ /\n/g' <<<"$1" | sed -nE '/^--?[a-z]/p' | sort -u; }

for command in "${commands[@]}"; do
	help=$("$COFFER" "$command" --help)
	lines=$(wc -l <<<"$help")
	[[ $lines -le 24 ]] || fail "coffer $command --help has $lines lines: it does not fit a screen"
	wide=$(awk 'length > 80' <<<"$help")
	[[ -z $wide ]] || fail "coffer $command --help is wider than a screen: $wide"
	grep -q "^usage: coffer $command " <<<"$help" || fail "coffer $command --help does not say how it is called"
	ok
	# An option of its usage is described, and one that is described is part of the usage.
	usage=$(sed '/^$/Q' <<<"$help")
	expect "$(options_in "$usage"$'\n'--config)" "$(options_of "$command")" "options in the usage of coffer $command"
	ok
	# Wrong calls print the usage, and no more.
	status=0
	error=$("$COFFER" "$command" --no-such-option 2>&1 >/dev/null) || status=$?
	expect 2 "$status" "exit code of coffer $command with an unknown option"
	expect "coffer $command: unrecognized option '--no-such-option'"$'\n'"$usage" "$error" "message of coffer $command with an unknown option"
	ok
done

# ---- man pages ----
man=$ROOT/etc/man
for page in "$man"/*; do
	findings=$(mandoc -T lint -W all "$page" 2>&1) || true
	[[ -z $findings ]] || fail "mandoc -T lint has something to say: $findings"
	ok
done
# As text, without what formats it.
plain() { sed -E 's/\\f[BIR]//g; s/\\-/-/g' "$1"; }
section() { plain "$man/coffer.1" | sed -n "/^\.SS $1\$/,/^\.S[HS] /p" | sed '1d;/^\.S[HS] /d'; }
expect "$(printf '%s\n' "${commands[@]}")" "$(plain "$man/coffer.1" | sed -n 's/^\.SS //p')" "commands in coffer(1)"
for command in "${commands[@]}"; do
	# The lines after .TP that are options.
	expect "$(options_of "$command" | grep -vx -- --config)" \
		"$(section "$command" | sed -nE '/^\.TP$/{n;s/^(--?[a-z-]+).*/\1/p}' | sort -u)" "options of $command in coffer(1)"
	usage=$("$COFFER" "$command" --help | sed '/^$/Q; s/^usage://' | tr -s ' \n' ' ')
	expect "$usage" " $(section "$command" | sed '/^\.PP$/Q; /^\.br$/d' | tr -s '\n ' ' ')" "usage of $command in coffer(1)"
	ok
done
expect "$("$COFFER" --help | sed -nE 's/^ +([0-9]+)  .*/\1/p')" "$(plain "$man/coffer.1" | sed -nE '/^\.SH EXIT STATUS/,/^\.SH ENV/s/^([0-9]+)$/\1/p')" \
	"exit codes in coffer(1)"
# Settings: the example names all that the man page does, with their defaults, and the program takes them.
example=$ROOT/etc/coffer.conf
expect "$(sed -nE 's/^# +?([a-z_]+) = .*/\1/p' "$example" | sort)" \
	"$(plain "$man/coffer.conf.5" | sed '/^\.SH EXAMPLE/Q' | sed -nE 's/^([a-z_]+) = .*/\1/p' | sort)" "settings in coffer.conf(5)"
sed -E 's/^# ( *[a-z_]+ [=:] .*| *};)$/\1/' "$example" >"$TEST_TMP/all.conf"
[[ $(grep -c '^ *[a-z]' "$TEST_TMP/all.conf") -ge 15 ]] || fail "settings in the example are not what this test takes them for"
status=0
"$COFFER" status "$TEST_TMP/nothing" --config "$TEST_TMP/all.conf" --state-dir "$COFFER_STATE_DIR" 2>/dev/null || status=$?
expect 3 "$status" "exit code with all settings of the example"
for option in $("$COFFER" mount --help | sed -nE 's/^  ([a-z_=]+).*/\1/p'); do
	plain "$man/mount.coffer.8" | grep -qE "^$option|, $option" || fail "mount option $option is not in mount.coffer(8)"
done
ok

# ---- completions ----
# shellcheck source=/dev/null
. "$ROOT/etc/completion/coffer.bash"
completed() { # WORD...: what bash would offer for the last word
	COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMPREPLY=()
	_coffer
	printf '%s\n' "${COMPREPLY[@]}" | sort -u
}
cat >"$TEST_TMP/complete.zsh" <<'END'
# The same for zsh, by standing in for its functions that offer.
fpath=($1 $fpath)
autoload -Uz _coffer
_describe() { print -l ${commands%%:*} }
_arguments() { print -l -- ${${@#\*}%%[:\[]*}; print -l -- "verbs ${(M)@:#1:what:*}" }
words=("${@:2}") CURRENT=$(($# - 1))
_coffer
END
zsh_completed() { zsh -f "$TEST_TMP/complete.zsh" "$ROOT/etc/completion" "$@"; }
expect "$(printf '%s\n' "${commands[@]}" | sort)" "$(completed coffer '' | grep -v '^-')" "commands that bash completes"
expect "$(printf '%s\n' "${commands[@]}" | sort)" "$(zsh_completed coffer '' | sort)" "commands that zsh completes"
for command in "${commands[@]}"; do
	wanted=$({ options_of "$command" && printf -- '--state-dir\n--help\n'; } | sort -u)
	expect "$wanted" "$(completed coffer "$command" -)" "options of $command that bash completes"
	expect "$wanted" "$(zsh_completed coffer "$command" - | grep '^-' | sort -u)" "options of $command that zsh completes"
	verbs=$("$COFFER" "$command" --help | sed '/^$/Q; s/^usage:/      /' | sed -nE "s/^ +coffer $command ([a-z|]+) .*/\1/p" | tr '|' '\n' | sort)
	if [[ $verbs ]]; then
		expect "$verbs" "$(completed coffer "$command" '')" "verbs of $command that bash completes"
		expect "$verbs" "$(zsh_completed coffer "$command" '' | sed -nE 's/^verbs 1:what:\((.*)\)$/\1/p' | tr ' ' '\n' | sort)" \
			"verbs of $command that zsh completes"
	fi
	ok
done
expect "$(printf 'ro,uring=auto\nro,uring=off\nro,uring=on')" "$(completed coffer mount b m -o ro,ur)" "mount options that bash completes"
ok
say "$good passed, 0 failed"
