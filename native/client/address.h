/* Where a service's socket is, and how to connect to it: transport/address.py. */

#ifndef ADDRESS_H
#define ADDRESS_H

#include <stdint.h>
#include <sys/socket.h>

/* Return the path of a service's socket: a name with a slash or ending in `.sock` is one already. NULL: a failure. */
const char *socket_path(const char *name);

#define ANSWER_TIMEOUT 30.0 /* seconds that a server has to accept, and for HELLO, unless there is a `--connect-timeout` */

/* What is spoken on a connection: PROTOCOL.md, or what the program of a bridge speaks. */
enum speaks { SPEAKS_PROTOCOL, SPEAKS_TO_BRIDGE };

/* Return a socket that is connected to `path`, or -1, and a failure. Keeps trying for that many seconds while no
 * server is listening. One that listens and does not accept has as many seconds, or `answer_timeout` if they are 0. */
int connect_to_service(const char *path, double connect_timeout, double answer_timeout, enum speaks speaks);

/* Return the process at the other end. */
struct ucred peer_of(int sock);

/* Return the monotonic clock. */
int64_t milliseconds_now(void);

#endif
