/* libFuzzer's entry for access control lists. What is accepted follows a mode, and says it again. */
#include <stdlib.h>

#include <coffer/util.h>

#include "../../src/volume/internal.h"
#include "fuzz.h"

static void require(bool good)
{
	if (!good)
		abort();
}

static void check_inherited(const uint8_t *acl, size_t len, mode_t asked)
{
	struct acl_pair made = { 0 };
	mode_t mode = S_IFDIR | asked, said = 0;

	require(acl_inherit(acl, len, &mode, &made) == 0);
	require((mode & 0777 & ~asked) == 0);
	require(made.inherit_len == len && !memcmp(made.inherit, acl, len));
	if (made.access) {
		require(acl_check(made.access, made.access_len) == 0);
		require(acl_to_mode(made.access, made.access_len, &said) == 0 && said == (mode & 0777));
	}
	free(made.access);
	free(made.inherit);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	mode_t asked = len > 1 ? get_le16(data) & 0777 : 0, mode = S_IFREG | 07000;
	uint8_t *acl;

	if (len < 2)
		return 0;
	len -= 2;
	acl = malloc(len ? len : 1);
	require(acl);
	memcpy(acl, data + 2, len);
	if (acl_check(acl, len) == 0) {
		int plain = acl_to_mode(acl, len, &mode);

		require((mode & ~(mode_t)0777) == (S_IFREG | 07000));
		check_inherited(acl, len, asked);
		acl_chmod(acl, len, asked);
		require(acl_check(acl, len) == 0);
		require(acl_to_mode(acl, len, &mode) == plain && (mode & 0777) == asked);
	}
	free(acl);
	return 0;
}
