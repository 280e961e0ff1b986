/* Settings and mount options. */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>

#include <coffer/daemon.h>
#include <coffer/util.h>

static struct mount_options parsed(const char *list, int want)
{
	struct config c = { .writeback = true, .allow_other = false, .uring = FS_URING_AUTO };
	struct mount_options o = { 0 };

	mount_options_init(&o, &c);
	cr_assert_eq(mount_options_parse(&o, list), want, "%s", list);
	return o;
}

Test(options, defaults_are_the_configuration)
{
	struct mount_options o = parsed("", 0);

	cr_assert(o.writeback);
	cr_assert_not(o.read_only);
	cr_assert_not(o.allow_other);
	cr_assert_not(o.accept_changes);
	cr_assert_eq(o.uring, FS_URING_AUTO);
	cr_assert_eq(o.flags, 0);
}

Test(options, each_word)
{
	cr_assert(parsed("ro", 0).read_only);
	cr_assert_not(parsed("ro,rw", 0).read_only, "the last one wins");
	cr_assert(parsed("allow_other", 0).allow_other);
	cr_assert_not(parsed("allow_other,noallow_other", 0).allow_other);
	cr_assert_not(parsed("writeback=off", 0).writeback);
	cr_assert(parsed("writeback=off,writeback=on", 0).writeback);
	cr_assert_eq(parsed("uring=on", 0).uring, FS_URING_ON);
	cr_assert_eq(parsed("uring=off", 0).uring, FS_URING_OFF);
	cr_assert_eq(parsed("uring=off,uring=auto", 0).uring, FS_URING_AUTO);
	cr_assert(parsed("accept", 0).accept_changes);
}

static const char *flags_of(const char *list)
{
	static char words[MOUNT_FLAGS_SIZE];
	struct mount_options o = parsed(list, 0);

	mount_options_flags(&o, words);
	return words;
}

Test(options, flags_for_the_kernel_are_collected)
{
	cr_assert_str_eq(flags_of("nosuid,ro,nodev,noexec"), "nosuid,nodev,noexec");
	cr_assert_str_eq(flags_of("nosymfollow,nodiratime,noatime,dirsync,sync,noexec,nodev,nosuid"),
			 "nosuid,nodev,noexec,sync,dirsync,noatime,nodiratime,nosymfollow");
}

Test(options, the_last_of_two_opposites_wins)
{
	cr_assert_str_eq(flags_of("noexec,nosuid,exec,noatime"), "nosuid,noatime");
	cr_assert_str_eq(flags_of("exec,noexec,atime,async"), "noexec");
}

Test(options, a_comma_in_quotes_separates_nothing)
{
	struct mount_options o = parsed("comment=\"a,ro,nonsense\",nodev,x-y=\"\"", 0);

	cr_assert_not(o.read_only);
	cr_assert_str_eq(flags_of("comment=\"a,ro\",nodev"), "nodev");
	cr_assert(parsed("x-y=\"open,nodev,ro", 0).flags == 0, "a quote that nothing closes takes all that follows");
}

Test(options, what_the_kernel_shows_may_come_back)
{
	struct mount_options o = parsed("remount,ro,relatime,user_id=0,group_id=0,default_permissions,allow_other", 0);

	cr_assert(o.remount);
	cr_assert(o.read_only);
}

Test(options, sloppy_takes_what_it_does_not_know)
{
	struct config c = { 0 };
	struct mount_options o = { .sloppy = true };

	mount_options_init(&o, &c);
	cr_assert_eq(mount_options_parse(&o, "frobnicate=7,ro,uring=perhaps"), 0);
	cr_assert(o.read_only);
}

Test(options, general_words_change_nothing)
{
	struct mount_options o = parsed(
		"defaults,nofail,_netdev,user,x-systemd.automount,x-gvfs-show,comment=a b,,relatime,noauto", 0);

	cr_assert_not(o.read_only);
	cr_assert_eq(o.flags, 0);
}

Test(options, anything_else_is_refused)
{
	parsed("readonly", -EINVAL);
	parsed("ro ", -EINVAL);
	parsed("ro,writeback", -EINVAL);
	parsed("writeback=maybe", -EINVAL);
	parsed("uring=", -EINVAL);
	parsed("roo", -EINVAL);
	parsed("commen", -EINVAL);
}

Test(options, each_flag_is_passed_once)
{
	cr_assert_str_eq(flags_of("nodiratime,noatime,nodiratime,noatime"), "noatime,nodiratime");
}

/* ---- settings ---- */

static char file[] = "/tmp/coffer-config-XXXXXX";

static void write_settings(const char *text)
{
	int fd = mkstemp(file);

	cr_assert_geq(fd, 0);
	cr_assert_eq(write_all(fd, text, strlen(text)), 0);
	close(fd);
}

static int load(struct config *c, const char *text)
{
	int r;

	write_settings(text);
	r = config_load(c, file, "/state");
	unlink(file);
	strcpy(file, "/tmp/coffer-config-XXXXXX");
	return r;
}

Test(config, every_setting)
{
	struct config c;

	cr_assert_eq(
		load(&c,
		     "sync_interval = 7; writeback = false; allow_other = false; uring = \"off\"; confine = false;"),
		0);
	cr_assert_eq(c.sync_interval, 7);
	cr_assert_not(c.writeback);
	cr_assert_not(c.allow_other);
	cr_assert_not(c.confine);
	cr_assert_eq(c.uring, FS_URING_OFF);
}

Test(config, defaults)
{
	struct config c;

	cr_assert_eq(load(&c, ""), 0);
	cr_assert_eq(c.sync_interval, 5);
	cr_assert(c.writeback);
	cr_assert(c.confine);
	cr_assert_eq(c.uring, FS_URING_AUTO);
	cr_assert_str_eq(c.state_dir, "/state");
}

Test(config, bad_settings_are_refused)
{
	static const char *const bad[] = {
		"sync_intervall = 5;",
		"sync_interval = 0;",
		"sync_interval = 3601;",
		"sync_interval = \"5\";",
		"writeback = 1;",
		"uring = \"no\";",
		"uring = true;",
		"state_dir = \"relative\";",
		"allow_other = \"no\"",
		"writeback",
		"writeback = true; x = 1",
		"confine = 0;",
		"volumes = 1;",
		"volumes = { v = 1; };",
		"volumes = { v = { }; };",
		"volumes = { v = { backing = \"b\"; }; };",
		"volumes = { v = { backing = \"/b\"; x = 1; }; };",
		"volumes = { v = { backing = \"/b\"; options = true; }; };",
	};
	struct config c;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		cr_assert_eq(load(&c, bad[i]), -EINVAL, "%s", bad[i]);
}

Test(config, volumes_with_names)
{
	static const char text[] = "volumes = { vault = { backing = \"/srv/v, 1\"; options = \"noatime,ro\"; };"
				   " desk-top_2 = { backing = \"/srv/w\"; mountpoint = \"/mnt/w\"; }; };";
	struct config_volume v;
	struct config c;

	write_settings(text);
	cr_assert_eq(config_load(&c, file, "/state"), 0);
	cr_assert_eq(config_volume(&c, "vault", &v), 0);
	cr_assert_str_eq(v.backing, "/srv/v, 1");
	cr_assert_str_eq(v.options, "noatime,ro");
	cr_assert_str_empty(v.mountpoint);
	cr_assert_eq(config_volume(&c, "desk-top_2", &v), 0);
	cr_assert_str_eq(v.mountpoint, "/mnt/w");
	cr_assert_str_empty(v.options);
	cr_assert_eq(config_volume(&c, "backing", &v), -ENOENT);
	cr_assert_eq(config_volume(&c, "vault.backing", &v), -ENOENT);
	cr_assert_eq(config_volume(&c, "vault/backing", &v), -ENOENT);
	cr_assert_eq(config_volume(&c, "", &v), -ENOENT);
	cr_assert_eq(config_volume(&c, "/srv/w", &v), -ENOENT);
	unlink(file);
	c.file[0] = 0;
	cr_assert_eq(config_volume(&c, "vault", &v), -ENOENT, "without a file there are no names");
}

Test(config, what_says_where_state_is)
{
	struct config c;

	write_settings("state_dir = \"/from/file\";");
	unsetenv("COFFER_STATE_DIR");
	cr_assert_eq(config_load(&c, file, NULL), 0);
	cr_assert_str_eq(c.state_dir, "/from/file");
	setenv("COFFER_STATE_DIR", "/from/environment", 1);
	cr_assert_eq(config_load(&c, file, NULL), 0);
	cr_assert_str_eq(c.state_dir, "/from/environment");
	cr_assert_eq(config_load(&c, file, "/from/option"), 0);
	cr_assert_str_eq(c.state_dir, "/from/option");
	setenv("COFFER_CONFIG", file, 1);
	unsetenv("COFFER_STATE_DIR");
	cr_assert_eq(config_load(&c, NULL, NULL), 0);
	cr_assert_str_eq(c.state_dir, "/from/file");
	unlink(file);
	cr_assert_eq(config_load(&c, NULL, NULL), -EINVAL, "a file that was named must be there");
}

/* ---- exit codes ---- */

Test(exit_codes, what_opening_a_volume_answers)
{
	static const struct {
		int r;
		enum exit_code code;
	} table[] = {
		{ 0, EXIT_DONE },
		{ -ENODATA, EXIT_NOT_A_VOLUME },
		{ -EBADMSG, EXIT_WRONG_KEY },
		{ -ENOENT, EXIT_KEY_REFUSED },
		{ -EACCES, EXIT_KEY_REFUSED },
		{ -EBUSY, EXIT_BUSY },
		{ -ENOTEMPTY, EXIT_EXISTS },
		{ -EPROTONOSUPPORT, EXIT_FORMAT },
		{ -ESTALE, EXIT_CHANGED },
		{ -EKEYREJECTED, EXIT_CHANGED },
		{ -EIO, EXIT_IO },
		{ -ENOSPC, EXIT_IO },
		{ -EUCLEAN, EXIT_DAMAGED },
		{ -ENOMEM, EXIT_OTHER },
	};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
		cr_assert_eq(exit_code_of(table[i].r), table[i].code, "%d", table[i].r);
}

/* ---- mount points ---- */

Test(mounts, the_root_is_mounted)
{
	struct mount_entry e;

	cr_assert_eq(mounts_at("/", &e), 0);
	cr_assert_str_eq(e.mountpoint, "/");
	cr_assert_not(mount_is_coffer(&e));
	cr_assert_eq(mounts_above("/proc/self", &e), 0);
	cr_assert_str_eq(e.mountpoint, "/proc");
	cr_assert_str_eq(e.type, "proc");
	cr_assert_eq(mounts_at("/no/such/mount", &e), -ENOENT);
}

Test(mounts, paths_are_resolved_up_to_the_last_component)
{
	char dir[] = "/tmp/coffer-mounts-XXXXXX", path[128], link[128], out[PATH_MAX];

	cr_assert_not_null(mkdtemp(dir));
	snprintf(link, sizeof(link), "%s/link", dir);
	cr_assert_eq(symlink("/proc/self", link), 0);
	snprintf(path, sizeof(path), "%s//./missing/", dir);
	cr_assert_eq(resolve_mountpoint(path, out), 0);
	snprintf(path, sizeof(path), "%s/missing", dir);
	cr_assert_str_eq(out, path);
	snprintf(path, sizeof(path), "%s/..", dir);
	cr_assert_eq(resolve_mountpoint(path, out), 0);
	cr_assert_str_eq(out, "/tmp");
	snprintf(path, sizeof(path), "%s/link/..", dir);
	cr_assert_eq(resolve_mountpoint(path, out), 0);
	cr_assert_str_eq(out, "/proc");
	cr_assert_eq(resolve_mountpoint("/", out), 0);
	cr_assert_str_eq(out, "/");
	cr_assert_eq(resolve_mountpoint("", out), -ENOENT);
	unlink(link);
	rmdir(dir);
}
