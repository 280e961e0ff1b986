# shellcheck shell=bash
# Completion of coffer for bash. tests/cli/help.sh compares it with what the program's help names.

# Mount points of volumes, and directories.
_coffer_places() {
	local mounts
	mounts=$(sed -n 's/^[^ ]* \([^ ]*\) fuse\.coffer .*/\1/p' /proc/self/mounts)
	mapfile -t COMPREPLY < <(compgen -W "$mounts" -- "$1" && compgen -d -- "$1")
	compopt -o filenames 2>/dev/null
}

# The last of some words with commas between them.
_coffer_mount_options() {
	local before=
	[[ $1 != *,* ]] || before=${1%,*},
	mapfile -t COMPREPLY < <(compgen -P "$before" -W 'ro rw allow_other noallow_other writeback=on writeback=off
		uring=auto uring=on uring=off accept recovery nosuid nodev noexec noatime sync' -- "${1##*,}")
	compopt -o nospace 2>/dev/null
}

_coffer() {
	local command=${COMP_WORDS[1]} cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]}
	local -A options=(
		[create]='--key --infrastructure --integrity'
		[mount]='-f -o'
		[umount]=''
		[status]='--json'
		[stats]='--json --prometheus'
		[scope]='--key --infrastructure --integrity --recursive --deny-override --json'
		[key]='--scope --key --infrastructure --ttl --json'
		[reencrypt]='--scope --rate --no-wait'
		[fsck]='--data'
		[import]='--across-mounts'
		[freeze]='--for'
		[thaw]=''
		[audit]='--json'
	)
	local -A verbs=(
		[scope]='create list enable disable purge assign'
		[key]='show set rotate lock unlock provide recovery'
		[audit]='show verify'
	)

	COMPREPLY=()
	if [[ $COMP_CWORD -eq 1 ]]; then
		mapfile -t COMPREPLY < <(compgen -W "${!options[*]} --help --version" -- "$cur")
		return
	fi
	case $prev in
	--integrity) mapfile -t COMPREPLY < <(compgen -W 'gmac none' -- "$cur") ;;
	--config) mapfile -t COMPREPLY < <(compgen -f -- "$cur") && compopt -o filenames 2>/dev/null ;;
	--state-dir) mapfile -t COMPREPLY < <(compgen -d -- "$cur") && compopt -o filenames 2>/dev/null ;;
	--key) mapfile -t COMPREPLY < <(compgen -W 'platform: file:/// kmip:// provided:' -- "$cur") ;;
	--scope | --ttl | --rate | --for) ;;
	-o) _coffer_mount_options "$cur" ;;
	*)
		if [[ $cur == -* ]]; then
			mapfile -t COMPREPLY < <(compgen -W "${options[$command]} --config --state-dir --help" -- "$cur")
		elif [[ $COMP_CWORD -eq 2 && ${verbs[$command]} ]]; then
			mapfile -t COMPREPLY < <(compgen -W "${verbs[$command]}" -- "$cur")
		else
			_coffer_places "$cur"
		fi
		;;
	esac
}
complete -F _coffer coffer
