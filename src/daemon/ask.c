/* Keys that come by standard input. */
#include <errno.h>
#include <stdio.h>
#include <termios.h>

#include <coffer/daemon.h>
#include <coffer/util.h>

/* One line, unseen. */
static int read_terminal(int fd, const char *prompt, struct secret *text, size_t *ret_len)
{
	struct termios before, quiet;
	ssize_t n;

	if (tcgetattr(fd, &before) < 0)
		return -errno;
	quiet = before;
	quiet.c_lflag &= ~(tcflag_t)(ECHO | ECHONL);
	fprintf(stderr, "%s: ", prompt);
	tcsetattr(fd, TCSAFLUSH, &quiet);
	do
		n = read(fd, secret_data(text), secret_size(text));
	while (n < 0 && errno == EINTR);
	tcsetattr(fd, TCSAFLUSH, &before);
	fputc('\n', stderr);
	if (n < 0)
		return -errno;
	*ret_len = (size_t)n;
	return 0;
}

int read_secret(int fd, const char *prompt, struct secret *text, size_t *ret_len)
{
	return isatty(fd) ? read_terminal(fd, prompt, text, ret_len)
			  : read_all(fd, secret_data(text), secret_size(text), ret_len);
}
