/* The nursery: where keepers are born. A server starts it and asks it for keepers, each by a message with the keeper's
 * end of a line; src/sidecall/supervise/nursery.py does the same in Python, and says more.
 *
 * It and the keepers it forks are small, and need no library: a server written in Python would otherwise lend each
 * command a copy of itself to be watched by.
 *
 * usage: sidecall-keeper LINE LAYOUT
 *   LINE     a descriptor of a SOCK_SEQPACKET socket
 *   LAYOUT   which messages the server sends: line.h */

#define _GNU_SOURCE

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "descent.h"
#include "keeper.h"
#include "line.h"
#include "main.h"

enum { EXIT_MISUSED = 64, EXIT_NO_ROOM = 71, STRIKE_AGAIN_MS = 20 };

static struct {
    pid_t *keepers; /* in no order */
    size_t count, room;
    bool has_strays; /* children that are no keepers: what one left that did not end by itself */
} nurse;

/* Make place for one more keeper. */
static bool have_room(void)
{
    if (nurse.count < nurse.room)
        return true;
    size_t room = nurse.room * 2 + 16;
    pid_t *more = realloc(nurse.keepers, room * sizeof *more);
    if (more == NULL)
        return false;
    nurse.keepers = more;
    nurse.room = room;
    return true;
}

/* Return where in the list a keeper is; NULL if the process is none. */
static pid_t *find_keeper(pid_t pid)
{
    for (size_t i = 0; i < nurse.count; i++)
        if (nurse.keepers[i] == pid)
            return nurse.keepers + i;
    return NULL;
}

static bool found_stray;

static void look_for_stray(pid_t child)
{
    found_stray = found_stray || find_keeper(child) == NULL;
}

static void kill_stray(pid_t child)
{
    if (find_keeper(child) == NULL)
        kill_child(child);
}

/* Reap what has ended. After a keeper that did not end by itself, children that are no keepers are strays. */
static void reap(void)
{
    int status;
    pid_t pid;
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        pid_t *keeper = find_keeper(pid);
        if (keeper != NULL) {
            *keeper = nurse.keepers[--nurse.count];
            nurse.has_strays = nurse.has_strays || status != 0;
        }
    }
    if (nurse.has_strays) {
        found_stray = false;
        nurse.has_strays = !for_each_child(look_for_stray) || found_stray;
    }
}

/* Say on a keeper's line that there is none. Its first job comes at once, and has to be read: what is sent to somebody
 * who goes without having read all is lost with a reset. */
static void decline(int line, int error)
{
    static struct message job;
    if (receive_message(line, &job))
        close_descriptors(&job);
    shutdown(line, SHUT_RD);
    send_reply(line, &(struct reply){.kind = FAILED, .number = error});
}

/* Name this process, and make it the parent of what its descendants leave behind. */
static void take_on(const char *name)
{
    prctl(PR_SET_NAME, name, 0, 0, 0);
    if (prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0)
        _exit(EXIT_NO_ROOM);
}

/* Fork a keeper for a line. */
static void raise_keeper(int line, int own_line)
{
    pid_t pid = have_room() ? fork() : -1;
    if (pid == 0) {
        close(own_line);
        take_on("sidecall-keeper");
        keep(line);
        _exit(0);
    }
    if (pid < 0)
        decline(line, errno);
    else
        nurse.keepers[nurse.count++] = pid;
}

/* Do what the server asks for; return false if it has hung up. */
static bool answer(int line)
{
    static struct message request;
    if (!receive_message(line, &request))
        return false;
    if (request.descriptors[0] >= 0)
        raise_keeper(request.descriptors[0], line);
    close_descriptors(&request);
    return true;
}

/* Wait for a request or a child's end; return whether it is a request. SIGCHLD gets through here and nowhere else. */
static bool wait_for_request(int line)
{
    static const struct timespec again = {0, STRIKE_AGAIN_MS * 1000000L};
    struct pollfd poll = {.fd = line, .events = POLLIN};
    sigset_t but_child;
    sigfillset(&but_child);
    sigdelset(&but_child, SIGCHLD);
    return ppoll(&poll, 1, nurse.has_strays ? &again : NULL, &but_child) > 0;
}

/* Make keepers until the server hangs up, and see all of them out. */
static void be_nurse(int line)
{
    int heard = line;
    while (heard >= 0 || nurse.count > 0 || nurse.has_strays) {
        bool is_asked = wait_for_request(heard);
        reap();
        if (nurse.has_strays)
            for_each_child(kill_stray);
        if (is_asked && !answer(line))
            heard = -1;
    }
}

static void no_action(int number)
{
    (void)number;
}

/* Give every signal its default, so that commands start with a clean slate, and block all: only waiting lets the news of
 * a child's end through. The defaults are set by the kernel's call: libc does not touch the two signals that it uses
 * itself, which glibc's posix_spawn(3) leaves ignored. */
static void settle_signals(void)
{
    static const uint64_t by_default[4]; /* the kernel's struct sigaction, all 0: SIG_DFL */
    const struct sigaction noted = {.sa_handler = no_action};
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, NULL);
    for (int number = 1; number <= SIGRTMAX; number++)
        syscall(SYS_rt_sigaction, number, by_default, NULL, sizeof(uint64_t));
    sigaction(SIGCHLD, &noted, NULL);
}

/* Open stdin, stdout and stderr if they are closed, so that no other descriptor gets there; close all but those and the
 * line; return the line. */
static int settle_descriptors(int line)
{
    int own = fcntl(line, F_DUPFD_CLOEXEC, 3), null = 0;
    while (null >= 0 && null < 3)
        null = open("/dev/null", O_RDWR);
    DIR *folder = opendir("/proc/self/fd");
    if (own < 0 || folder == NULL)
        return -1;
    for (struct dirent *entry; (entry = readdir(folder)) != NULL;) {
        int fd = atoi(entry->d_name);
        if (fd > 2 && fd != own && fd != dirfd(folder))
            close(fd);
    }
    closedir(folder);
    return own;
}

static bool is_line(int fd)
{
    int type = 0;
    socklen_t size = sizeof type;
    return getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) == 0 && type == SOCK_SEQPACKET;
}

int keeper_main(int argc, char **argv)
{
    if (argc != 3 || !is_line(atoi(argv[1])) || strcmp(argv[2], LAYOUT) != 0) {
        fputs("sidecall-keeper: this is a part of `sidecall serve`, which starts it if it is of the same release\n", stderr);
        return EXIT_MISUSED;
    }
    int line = settle_descriptors(atoi(argv[1]));
    if (line < 0)
        return EXIT_NO_ROOM;
    settle_signals();
    setsid(); /* a Ctrl-C at the server's terminal is the server's */
    take_on("sidecall-nurse");
    be_nurse(line);
    return 0;
}

#ifndef SIDECALL_STANDALONE /* there native/client/main.c calls it */

int main(int argc, char **argv)
{
    return keeper_main(argc, argv);
}

#endif
