/* Theory of operation
 *
 * The new process shares this one's memory until it executes the command (vfork(2)), which costs a third of a fork, and
 * reports a failure on a pipe that execve(2) closes.
 *
 * It is the first and only process of the service that installs the descriptors that a client passed. They might be
 * anything: a close of the last reference to a TCP socket with SO_LINGER waits for its peer, and each close, fstat(2) or
 * flush of a FUSE file waits for its daemon. So nothing here closes one of them, nor does execve(2), since they are
 * received straight onto the numbers that the command has them on: recvmsg(2) installs onto the lowest free numbers, and
 * of 0, 1 and 2 exactly those of passed streams are closed before. A stream that is given, or the same as stdout, keeps
 * its number occupied by this process' own. There is room for as many descriptors as a message can have, because
 * the kernel closes those that do not fit. If something is wrong with them, the process exits, and its parent does not
 * wait for that: exit(2) wakes a parent that waits in vfork(2) before it closes the files. */

#define _GNU_SOURCE

#include "execute.h"

#include "confine.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef STATX_TYPE /* an old C library: where it has them, it does not go with the kernel's */
#include <linux/stat.h>
#endif

enum { MAX_RIGHTS = 253 /* descriptors in a message: SCM_MAX_FD of the kernel, unix(7) */ };

static const uint32_t UNCHANGED = (uint32_t)-1;

/* The frame that a client attaches its descriptors to: a length of 0, and the type PASS. */
static const uint8_t PASS_FRAME[] = {0, 0, 0, 0, 12};

/* The end of a pipe on which the new process reports why it does not become the command. Memory would do as well, but is
 * not shared if vfork(2) is a fork: under an emulator, or where it is refused. */
static int report_end;

static _Noreturn void give_up(enum stage stage)
{
    const struct start_error error = {errno, stage};
    ssize_t written = write(report_end, &error, sizeof error); /* there is room, and a reader */
    (void)written;
    _exit(127);
}

/* Receive the PASS frame of the client with its descriptors; return how many came, -1 if it is not that frame. */
static int receive_passed(int connection, int *descriptors)
{
    static union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(MAX_RIGHTS * sizeof(int))];
    } buffer;
    uint8_t frame[sizeof PASS_FRAME];
    struct iovec data = {frame, sizeof frame};
    struct msghdr header = {
        .msg_iov = &data, .msg_iovlen = 1, .msg_control = buffer.bytes, .msg_controllen = sizeof buffer.bytes};
    ssize_t size = recvmsg(connection, &header, MSG_DONTWAIT);
    if (size != sizeof frame || memcmp(frame, PASS_FRAME, sizeof frame) != 0 || (header.msg_flags & MSG_CTRUNC) != 0)
        return -1;
    struct cmsghdr *control = CMSG_FIRSTHDR(&header);
    if (control == NULL || control->cmsg_level != SOL_SOCKET || control->cmsg_type != SCM_RIGHTS)
        return 0;
    size_t count = (control->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    memcpy(descriptors, CMSG_DATA(control), count * sizeof(int));
    return (int)count;
}

/* Tell whether a descriptor is one of a directory, without asking the file's own file system. A command could leave its
 * own file system through it. */
static bool is_directory(int fd)
{
    struct statx status;
    if (syscall(SYS_statx, fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_TYPE, &status) == 0)
        return S_ISDIR(status.stx_mode);
    struct stat old; /* before Linux 4.11, or refused by a filter */
    return fstat(fd, &old) != 0 || S_ISDIR(old.st_mode);
}

/* Receive the passed streams onto their numbers, all of which are free; no lower number is. */
static void install_passed(const struct job *job)
{
    static int descriptors[MAX_RIGHTS];
    int next = 0, expected = 0, count = receive_passed(job->connection, descriptors);
    for (int i = 0; i < 3; i++)
        expected += is_passed(job->run, i);
    errno = EBADMSG;
    if (count >= 0 && count < expected)
        give_up(AT_MISSING_DESCRIPTORS);
    for (int i = 0; i < 3; i++)
        if (is_passed(job->run, i) && (count != expected || descriptors[next++] != i || is_directory(i)))
            give_up(AT_MALFORMED_DESCRIPTORS);
}

/* Replace a passed descriptor by /dev/null. This can wait for what the client passed, and hold up this command only. */
static bool drop(int stream)
{
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    return null >= 0 && dup2(null, stream) >= 0;
}

/* Put the streams onto 0, 1 and 2. */
static void install_streams(const struct job *job)
{
    const uint8_t *sources = job->run->sources;
    int next = 0;
    for (int i = 0; i < 3; i++)
        if (sources[i] == GIVEN && dup2(job->given[next++], i) < 0)
            give_up(AT_FORK);
    for (int i = 0; i < 3; i++)
        if (is_passed(job->run, i))
            close(i); /* this process' own */
    if (job->connection >= 0)
        install_passed(job);
    for (int i = 0; i < 3; i++)
        if (sources[i] == UNWANTED && !drop(i))
            give_up(AT_FORK);
    if (sources[2] == SAME_AS_STDOUT && dup2(1, 2) < 0)
        give_up(AT_FORK);
}

/* Make the command a likelier victim of the OOM killer than the server. A lower value than it has now needs a
 * privilege; the command runs without. */
static void volunteer_for_oom_killer(int adjustment)
{
    char text[16];
    int length = snprintf(text, sizeof text, "%d", adjustment);
    int file = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    if (file < 0)
        return;
    ssize_t written = write(file, text, (size_t)length);
    (void)written;
    close(file);
}

/* Become the user and the groups of the job. These are the kernel's calls: libc's own may want all threads to follow. */
static bool become(const struct job *job)
{
    const struct run *run = job->run;
    return (!run->has_groups || syscall(SYS_setgroups, (size_t)run->group_count, job->groups) == 0) &&
           (run->gid == UNCHANGED || syscall(SYS_setregid, run->gid, run->gid) == 0) &&
           (run->uid == UNCHANGED || syscall(SYS_setreuid, run->uid, run->uid) == 0);
}

static bool set_limits(const struct job *job)
{
    for (uint32_t i = 0; i < job->run->limit_count; i++) {
        const struct rlimit limit = {job->limits[i].value, job->limits[i].value};
        if (prlimit(0, (int)job->limits[i].resource, &limit, NULL) != 0)
            return false;
    }
    errno = 0;
    return job->run->nice == 0 || nice(job->run->nice) != -1 || errno == 0;
}

/* Return the directories to look for programs in. Without PATH it is the system's default, as in Python's `os.defpath`. */
static const char *search_path(char **variables)
{
    for (; *variables != NULL; variables++)
        if (strncmp(*variables, "PATH=", 5) == 0)
            return *variables + 5;
    return "/bin:/usr/bin";
}

/* Execute a file. Of one that exists, but whose interpreter does not, the error is ENOENT too: report that as ELIBACC,
 * which execve(2) returns for ELF interpreters alone. */
static void execute_file(const char *path, const struct job *job)
{
    execve(path, job->arguments, job->variables);
    if (errno == ENOENT)
        errno = access(path, F_OK) == 0 ? ELIBACC : ENOENT;
}

/* Execute a program of a directory, whose name is a part of a string. */
static void execute_in(const char *directory, size_t length, const struct job *job)
{
    static char path[PATH_MAX];
    const char *slash = length > 0 && directory[length - 1] != '/' ? "/" : "";
    if (length >= sizeof path ||
        (size_t)snprintf(path, sizeof path, "%.*s%s%s", (int)length, directory, slash, job->arguments[0]) >= sizeof path)
        errno = ENAMETOOLONG;
    else
        execute_file(path, job);
}

/* Execute the program, looked up as execvp(3) does it. The error that remains is that of a file that is
 * there but cannot be executed, if there is one, rather than that of a missing one. */
static void execute_program(const struct job *job)
{
    if (strchr(job->arguments[0], '/') != NULL) {
        execute_file(job->arguments[0], job);
        return;
    }
    int best = 0;
    const char *directory = search_path(job->variables);
    for (bool is_last = false; !is_last;) {
        size_t length = strcspn(directory, ":");
        execute_in(directory, length, job);
        if (best == 0 && errno != ENOENT && errno != ENOTDIR)
            best = errno;
        is_last = directory[length] == '\0';
        directory += length + 1;
    }
    if (best != 0)
        errno = best;
}

/* The new process, up to the command. */
static _Noreturn void start(const struct job *job)
{
    sigset_t none;
    install_streams(job);
    if (job->directory != NULL && chdir(job->directory) != 0)
        give_up(AT_CHDIR);
    if (job->run->umask >= 0)
        umask((mode_t)job->run->umask);
    setsid();
    if (job->run->has_terminal && ioctl(STDIN_FILENO, TIOCSCTTY, 0) != 0)
        give_up(AT_FORK);
    if (job->run->oom_score_adj != 0)
        volunteer_for_oom_killer(job->run->oom_score_adj);
    if (job->path_count > 0 && !confine(job->paths, job->path_count)) /* while it can open the server's descriptors */
        give_up(AT_CONFINE);
    if (!become(job) || !set_limits(job))
        give_up(AT_IDENTITY);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    execute_program(job);
    give_up(errno == ELIBACC ? AT_INTERPRETER : AT_EXEC);
}

static bool is_refused(int error)
{
    return error == EPERM || error == ENOSYS;
}

/* Begin the new process; it reports to the descriptor, which is closed. Return its pid, or -1. */
static pid_t begin(const struct job *job, int end)
{
    report_end = end;
    pid_t pid = vfork();
    if (pid < 0 && is_refused(errno)) /* by a seccomp filter */
        pid = fork();
    if (pid == 0)
        start(job);
    int error = errno;
    close(end);
    errno = error;
    return pid;
}

/* Wait until the new process has become the command, or reports; return false then. */
static bool has_become(int reports, struct start_error *error)
{
    ssize_t size;
    while ((size = read(reports, error, sizeof *error)) < 0 && errno == EINTR)
        ;
    return size <= 0;
}

pid_t execute(const struct job *job, struct start_error *error, pid_t *child)
{
    int ends[2];
    *child = -1;
    *error = (struct start_error){0, AT_FORK};
    if (pipe2(ends, O_CLOEXEC) != 0) {
        error->number = errno;
        return -1;
    }
    pid_t pid = begin(job, ends[1]);
    if (pid < 0)
        error->number = errno;
    else if (!has_become(ends[0], error)) {
        *child = pid;
        pid = -1;
    }
    close(ends[0]);
    return pid;
}
