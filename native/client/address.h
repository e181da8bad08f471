/* Where a service's socket is, and how to connect to it: transport/address.py, in the same words. */

#ifndef ADDRESS_H
#define ADDRESS_H

#include <sys/socket.h>

/* Return the path of a service's socket: a name with a slash or ending in `.sock` is one already. NULL: a failure. */
const char *socket_path(const char *name);

/* Return a socket that is connected to `path`, or -1, and a failure. Keeps trying for `wait` seconds while nobody
 * listens. */
int connect_to_service(const char *path, double wait);

/* Return who listens at the other end. */
struct ucred peer_of(int sock);

#endif
