/* The control socket, the side that asks. */
#include <errno.h>

#include "daemon_internal.h"

static int connect_to(const char *state_dir, const char *name, int *ret_fd)
{
	AUTO_CLOSE int dir = -1, fd = -1;
	struct sockaddr_un address;
	int r = control_socket_dir(state_dir, false, &dir);

	if (r < 0)
		return r;
	address = control_address(dir, name);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		return -errno;
	*ret_fd = fd;
	fd = -1;
	return 0;
}

int control_connect(const char *state_dir, const char *backing, int *ret_fd)
{
	char name[SOCKET_NAME_SIZE];
	int r = control_name(backing, name);

	return r < 0 ? r : connect_to(state_dir, name, ret_fd);
}

int control_connect_mount(const char *state_dir, dev_t device, int *ret_fd)
{
	char name[SOCKET_NAME_SIZE];

	control_mount_name(device, name);
	return connect_to(state_dir, name, ret_fd);
}

int control_send(int fd, json_t *request)
{
	int r = request ? control_write(fd, request) : -ENOMEM;

	json_decref(request);
	return r;
}

int control_receive(int fd, control_line *line, void *arg, json_t **ret_answer)
{
	AUTO_FREE char *text = NULL;
	int copy = dup(fd), r = -ECONNRESET;
	FILE *f = copy >= 0 ? fdopen(copy, "r") : NULL;
	json_t *message = NULL, *result;
	const char *text_of_line;
	size_t size = 0;

	if (ret_answer)
		*ret_answer = NULL;
	if (!f && copy >= 0)
		close(copy);
	while (f && getline(&text, &size, f) > 0) {
		json_decref(message);
		message = json_loads(text, 0, NULL);
		result = json_object_get(message, "result");
		if (result) {
			r = (int)json_integer_value(result);
			break;
		}
		text_of_line = json_string_value(json_object_get(message, "line"));
		if (line && text_of_line && !line(arg, text_of_line)) {
			r = -ECANCELED;
			break;
		}
	}
	if (f)
		fclose(f);
	if (ret_answer && json_object_get(message, "result")) {
		*ret_answer = message;
		message = NULL;
	}
	json_decref(message);
	return r;
}
