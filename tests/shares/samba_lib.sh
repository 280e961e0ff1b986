# shellcheck shell=bash
# A Samba server for the scripts in tests/shares/ that sourced lib.sh: the users alice and bob, whose passwords are pw-alice and
# pw-bob, and one share, [vault].
command -v smbd smbclient smbtorture >/dev/null || skip "Samba is not installed"
samba=$TEST_TMP/samba

# start_samba DIR: shares DIR.
start_samba() {
	local user
	mkdir -p "$samba"/{private,state,cache,lock,pid,ncalrpc}
	cat >"$samba/smb.conf" <<-END
		[global]
		server role = standalone server
		workgroup = COFFER
		netbios name = COFFERTEST
		interfaces = lo
		bind interfaces only = yes
		smb ports = 445
		disable netbios = yes
		disable spoolss = yes
		load printers = no
		# The oldest protocol, for smbtorture's base.delete.
		server min protocol = NT1
		client min protocol = NT1
		private dir = $samba/private
		state directory = $samba/state
		cache directory = $samba/cache
		lock directory = $samba/lock
		pid directory = $samba/pid
		ncalrpc dir = $samba/ncalrpc
		log file = $samba/log.%m
		[vault]
		path = $1
		read only = no
		vfs objects = acl_xattr streams_xattr
		ea support = yes
		store dos attributes = yes
	END
	if [[ ! -e $samba/private/passdb.tdb ]]; then
		add_users alice bob
		for user in alice bob; do
			printf 'pw-%s\npw-%s\n' "$user" "$user" | smbpasswd -c "$samba/smb.conf" -L -s -a "$user"
		done
	fi
	smbd -F -s "$samba/smb.conf" >"$samba/out" 2>&1 &
	smbd=$!
	retry 30 smb alice ls || {
		tail -n 30 "$samba"/log.*
		fail "smbd does not start"
	}
}
stop_samba() {
	kill "$smbd"
	wait "$smbd" || true
	retry 30 eval '! pgrep -x smbd' || fail "smbd does not end"
}

# smb USER COMMANDS [OPTION...]: what smbclient does of them, from $TEST_TMP.
smb() {
	local user=$1 commands=$2
	shift 2
	(cd "$TEST_TMP" && smbclient -s "$samba/smb.conf" -U "$user%pw-$user" "$@" //127.0.0.1/vault -c "$commands")
}
