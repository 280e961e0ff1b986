#!/bin/bash
# What --help names is what there is: each command's fits a screen, and its options are those that the command takes.
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
say "$good passed, 0 failed"
