#define _GNU_SOURCE

#include "execute.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static const uint32_t AS_IT_IS = (uint32_t)-1;

/* The end of a pipe on which the new process says why it does not become the command. Otherwise the pipe closes with
 * execve(2). Memory would do in place of it, but is not shared after a vfork(2) that an emulator makes a fork. */
static int complaint;

static _Noreturn void give_up(bool at_folder)
{
    const struct start_error error = {errno, at_folder};
    ssize_t written = write(complaint, &error, sizeof error); /* there is room, and a reader */
    (void)written;
    _exit(127);
}

/* Become the user and the groups of the job. These are the kernel's calls: libc's own may want all threads to follow. */
static bool become(const struct job *job)
{
    const struct run *run = job->run;
    return (!run->has_groups || syscall(SYS_setgroups, (size_t)run->group_count, job->groups) == 0) &&
           (run->gid == AS_IT_IS || syscall(SYS_setregid, run->gid, run->gid) == 0) &&
           (run->uid == AS_IT_IS || syscall(SYS_setreuid, run->uid, run->uid) == 0);
}

static bool restrict_itself(const struct job *job)
{
    for (uint32_t i = 0; i < job->run->limit_count; i++) {
        const struct rlimit most = {job->limits[i].most, job->limits[i].most};
        if (prlimit(0, (int)job->limits[i].which, &most, NULL) != 0)
            return false;
    }
    errno = 0;
    return job->run->nice == 0 || nice(job->run->nice) != -1 || errno == 0;
}

/* Return the folders to look for programs in. Without PATH it is the system's default, as in Python's `os.defpath`. */
static const char *search_path(char **variables)
{
    for (; *variables != NULL; variables++)
        if (strncmp(*variables, "PATH=", 5) == 0)
            return *variables + 5;
    return "/bin:/usr/bin";
}

/* Execute a program of a folder, whose name is a part of a string. */
static void execute_in(const char *folder, size_t length, const struct job *job)
{
    static char path[PATH_MAX];
    const char *slash = length > 0 && folder[length - 1] != '/' ? "/" : "";
    if (length >= sizeof path ||
        (size_t)snprintf(path, sizeof path, "%.*s%s%s", (int)length, folder, slash, job->arguments[0]) >= sizeof path)
        errno = ENAMETOOLONG;
    else
        execve(path, job->arguments, job->variables);
}

/* Execute the program, looked up as execvp(3) does it. The error that is left tells most: that a file is there, but
 * cannot be executed, more than that another is missing. */
static void execute_program(const struct job *job)
{
    if (strchr(job->arguments[0], '/') != NULL) {
        execve(job->arguments[0], job->arguments, job->variables);
        return;
    }
    int telling = 0;
    const char *folder = search_path(job->variables);
    for (bool is_last = false; !is_last;) {
        size_t length = strcspn(folder, ":");
        execute_in(folder, length, job);
        if (telling == 0 && errno != ENOENT && errno != ENOTDIR)
            telling = errno;
        is_last = folder[length] == '\0';
        folder += length + 1;
    }
    if (telling != 0)
        errno = telling;
}

/* The new process, up to the command. */
static _Noreturn void start(const struct job *job, const int *streams)
{
    sigset_t none;
    for (int i = 0; i < 3; i++)
        if (dup2(streams[i], i) < 0)
            give_up(false);
    if (job->folder != NULL && chdir(job->folder) != 0)
        give_up(true);
    if (job->run->umask >= 0)
        umask((mode_t)job->run->umask);
    setsid();
    if (!become(job) || !restrict_itself(job))
        give_up(false);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    execute_program(job);
    give_up(false);
}

/* Begin the new process; its complaint goes to the descriptor, which is closed. Return its pid, or -1. */
static pid_t begin(const struct job *job, const int *streams, int complaint_end)
{
    complaint = complaint_end;
    pid_t pid = vfork();
    if (pid == 0)
        start(job, streams);
    int error = errno;
    close(complaint_end);
    errno = error;
    return pid;
}

/* Wait until the new process has become the command, or complains; return false then. */
static bool has_become(int complaints, struct start_error *error)
{
    ssize_t size;
    while ((size = read(complaints, error, sizeof *error)) < 0 && errno == EINTR)
        ;
    return size <= 0;
}

pid_t execute(const struct job *job, const int *streams, struct start_error *error)
{
    int ends[2];
    pid_t pid = -1;
    if (pipe2(ends, O_CLOEXEC) == 0) {
        pid = begin(job, streams, ends[1]);
        error->number = errno;
        if (pid > 0 && !has_become(ends[0], error)) {
            waitpid(pid, NULL, 0);
            pid = -1;
        }
        close(ends[0]);
    } else {
        error->number = errno;
    }
    return pid;
}
