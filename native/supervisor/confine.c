/* The kernel's own numbers stand here, since not every C library that this is compiled with has linux/landlock.h. They are
 * the same on all architectures. */

#define _GNU_SOURCE

#include "confine.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { CREATE_RULESET = 444, ADD_RULE, RESTRICT_SELF };
enum { ASK_FOR_VERSION = 1, PATH_BENEATH = 1 };
enum { LEAST_VERSION = 3 /* Linux 6.2: earlier ones let files be truncated anywhere */ };

/* clang-format off */
enum {
    EXECUTE = 1 << 0, WRITE_FILE = 1 << 1, READ_FILE = 1 << 2, READ_DIR = 1 << 3,
    MAKE_CHAR = 1 << 6, MAKE_BLOCK = 1 << 11, TRUNCATE = 1 << 14,
    ALL = (1 << 15) - 1, /* of version 3 */
    OF_FILES = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE,
};
/* clang-format on */

struct path_beneath {
    uint64_t allowed;
    int32_t parent;
} __attribute__((packed));

static uint64_t rights_of(char letter)
{
    if (letter == 'w')
        return ALL & ~(EXECUTE | MAKE_CHAR | MAKE_BLOCK);
    return READ_FILE | READ_DIR | (letter == 'x' ? EXECUTE : 0);
}

static bool allow(int ruleset, const char *path)
{
    struct stat status;
    struct path_beneath rule = {rights_of(path[0]), open(path + 1, O_PATH | O_CLOEXEC)};
    if (rule.parent < 0)
        return errno == ENOENT;
    bool is_done = fstat(rule.parent, &status) == 0;
    if (is_done && !S_ISDIR(status.st_mode))
        rule.allowed &= OF_FILES;
    is_done = is_done && syscall(ADD_RULE, ruleset, PATH_BENEATH, &rule, 0) == 0;
    int error = errno;
    close(rule.parent);
    errno = error;
    return is_done;
}

bool confine(char *const *paths, size_t count)
{
    const uint64_t handled = ALL;
    long version = syscall(CREATE_RULESET, NULL, 0, ASK_FOR_VERSION);
    if (version >= 0 && version < LEAST_VERSION)
        errno = EOPNOTSUPP;
    if (version < LEAST_VERSION)
        return false;
    int ruleset = (int)syscall(CREATE_RULESET, &handled, sizeof handled, 0);
    if (ruleset < 0)
        return false;
    bool is_done = true;
    for (size_t i = 0; is_done && i < count; i++)
        is_done = allow(ruleset, paths[i]);
    is_done = is_done && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && syscall(RESTRICT_SELF, ruleset, 0) == 0;
    int error = errno;
    close(ruleset);
    errno = error;
    return is_done;
}
