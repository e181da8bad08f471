/* Theory of operation
 *
 * The fork server is a small process that a server starts once, and that forks supervisors when it is asked to. A server
 * written in Python would otherwise copy itself for each command. The server asks with NEW, a serial number, and the
 * supervisor's end of a control socket, and is answered with FORKED or NOT_FORKED. KILL kills the supervisor of a serial
 * number; a pid is not reused before it is reaped here.
 *
 * The fork server is a subreaper too: what a killed supervisor leaves becomes its child. All its children that are no
 * supervisors are orphans. They are frozen and killed after any supervisor ended other than with success; if it ended with
 * success they were kept on purpose. If some cannot be killed, the attempts become rarer.
 *
 * When the server ends, however it does, the control sockets close, and the kernel continues a stopped fork server. The
 * supervisors stop what they run, and exit. The fork server continues those that are stopped, kills those that take longer
 * than the longest grace period of any command and a margin, and exits when nothing is left that can be killed.
 *
 * It does not touch the descriptors of a job, and closes its copy of a supervisor's socket right after the fork.
 *
 * usage: sidecall-supervisor CONTROL VERSION
 *   CONTROL   a descriptor of a SOCK_SEQPACKET socket
 *   VERSION   of the messages that the server sends: control.h */

#define _GNU_SOURCE

#include "forkserver.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "control.h"
#include "descendants.h"
#include "supervisor.h"

enum { EXIT_MISUSED = 64, EXIT_NO_RESOURCES = 71, MAX_FREEZE_ROUNDS = 100 };

/* Milliseconds. */
enum { KILL_INTERVAL = 20, MAX_KILL_INTERVAL = 1000, CHECK_INTERVAL = 200, UNKILLABLE_AFTER = 2000, MARGIN = 4000 };

struct supervisor {
    pid_t pid;
    uint32_t serial;
};

static struct {
    struct supervisor *supervisors; /* in no order */
    size_t count, room;
    int kill_interval;              /* until the next attempt to kill orphans; 0: there are none */
    _Atomic int64_t *longest_grace; /* nanoseconds; the supervisors share it */
} server;

static int64_t now_ms(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * INT64_C(1000) + time.tv_nsec / 1000000;
}

static bool make_room(void)
{
    if (server.count < server.room)
        return true;
    size_t room = server.room * 2 + 16;
    struct supervisor *more = realloc(server.supervisors, room * sizeof *more);
    if (more == NULL)
        return false;
    server.supervisors = more;
    server.room = room;
    return true;
}

/* Return a supervisor's entry in the list; NULL if the process is none. */
static struct supervisor *find_supervisor(pid_t pid)
{
    for (size_t i = 0; i < server.count; i++)
        if (server.supervisors[i].pid == pid)
            return server.supervisors + i;
    return NULL;
}

static bool is_supervisor(pid_t child)
{
    return find_supervisor(child) != NULL;
}

/* Reap what has exited. What a supervisor that did not end with success left behind is to be killed. */
static void reap(void)
{
    int status;
    pid_t pid;
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        struct supervisor *supervisor = find_supervisor(pid);
        if (supervisor == NULL)
            continue;
        *supervisor = server.supervisors[--server.count];
        if (status != 0)
            server.kill_interval = KILL_INTERVAL;
    }
}

/* Freeze and kill the orphans; the next attempt follows later each time. */
static void kill_orphans(void)
{
    for (int i = 0; i < MAX_FREEZE_ROUNDS && freeze_descendants(is_supervisor); i++)
        reap();
    kill_descendants(is_supervisor);
    reap();
    int next = server.kill_interval * 2;
    server.kill_interval = survey_descendants(is_supervisor).count == 0 ? 0 : next < MAX_KILL_INTERVAL ? next : MAX_KILL_INTERVAL;
}

/* Name this process, and make it the parent of what its descendants leave behind. */
static void take_on(const char *name)
{
    prctl(PR_SET_NAME, name, 0, 0, 0);
    if (prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0)
        _exit(EXIT_NO_RESOURCES);
}

/* Fork a supervisor; return 0, or why it cannot be forked. */
static int fork_supervisor(uint32_t serial, int supervisor_end, int control)
{
    pid_t pid = make_room() ? fork() : -1;
    if (pid == 0) {
        close(control);
        take_on("sidecall-super");
        _exit(supervise(supervisor_end, server.longest_grace) ? 0 : 1);
    }
    if (pid < 0)
        return errno;
    server.supervisors[server.count++] = (struct supervisor){pid, serial};
    return 0;
}

static void kill_supervisor(uint32_t serial)
{
    for (size_t i = 0; i < server.count; i++)
        if (server.supervisors[i].serial == serial)
            kill(server.supervisors[i].pid, SIGKILL);
}

/* Do what the server requests; return false if it has closed the control socket. */
static bool handle_request(int control)
{
    static struct message message;
    if (!receive_message(control, &message))
        return false;
    const struct request *request = (const struct request *)(const void *)message.bytes;
    struct event event = {.kind = KILLED, .serial = (uint32_t)request->value};
    if (request->kind == NEW) {
        event.number = message.descriptors[0] < 0 ? EMFILE : fork_supervisor(event.serial, message.descriptors[0], control);
        event.kind = event.number == 0 ? FORKED : NOT_FORKED;
    } else {
        kill_supervisor(event.serial);
    }
    if (event.kind == NOT_FORKED)
        send_event(control, &event); /* before the supervisor's control socket closes */
    close_descriptors(&message);
    if (event.kind != NOT_FORKED)
        send_event(control, &event);
    return true;
}

/* Wait for a request or the exit of a child, up to `timeout` milliseconds, -1 for ever; return whether it is a request.
 * SIGCHLD gets through here and nowhere else. */
static bool wait_for_request(int control, int timeout)
{
    const struct timespec most = {timeout / 1000, timeout % 1000 * 1000000L};
    struct pollfd poll = {.fd = control, .events = POLLIN};
    sigset_t except_child;
    sigfillset(&except_child);
    sigdelset(&except_child, SIGCHLD);
    return ppoll(&poll, 1, timeout < 0 ? NULL : &most, &except_child) > 0;
}

/* Fork supervisors until the server closes the control socket. */
static void serve(int control)
{
    bool is_open = true;
    while (is_open) {
        bool is_request = wait_for_request(control, server.kill_interval > 0 ? server.kill_interval : -1);
        reap();
        if (server.kill_interval > 0)
            kill_orphans();
        if (is_request)
            is_open = handle_request(control);
    }
}

static void signal_supervisors(int number)
{
    for (size_t i = 0; i < server.count; i++)
        kill(server.supervisors[i].pid, number);
}

/* Wait for the supervisors, which stop what they run. Kill what is left in the end. */
static void wait_for_supervisors(void)
{
    int64_t kill_at = now_ms() + atomic_load(server.longest_grace) / 1000000 + MARGIN;
    while (reap(), (server.count > 0 || server.kill_interval > 0) && now_ms() < kill_at + UNKILLABLE_AFTER) {
        signal_supervisors(now_ms() < kill_at ? SIGCONT : SIGKILL);
        if (server.kill_interval > 0)
            kill_orphans();
        wait_for_request(-1, server.kill_interval > 0 ? server.kill_interval : CHECK_INTERVAL);
    }
}

static void no_action(int number)
{
    (void)number;
}

/* Give every signal its default, so that commands start with it, and block all: only waiting lets SIGCHLD through. The
 * defaults are set by the kernel's call: libc does not touch the two signals that it uses itself, which glibc's
 * posix_spawn(3) leaves ignored. */
static void reset_signals(void)
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
 * control socket; return the latter. */
static int reset_descriptors(int control)
{
    int own = fcntl(control, F_DUPFD_CLOEXEC, 3), null = 0;
    while (null >= 0 && null < 3)
        null = open("/dev/null", O_RDWR | O_CLOEXEC);
    DIR *directory = opendir("/proc/self/fd");
    if (own < 0 || directory == NULL)
        return -1;
    for (struct dirent *entry; (entry = readdir(directory)) != NULL;) {
        int fd = atoi(entry->d_name);
        if (fd > 2 && fd != own && fd != dirfd(directory))
            close(fd);
    }
    closedir(directory);
    return own;
}

static bool is_control_socket(int fd)
{
    int type = 0;
    socklen_t size = sizeof type;
    return getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) == 0 && type == SOCK_SEQPACKET;
}

int supervisor_main(int argc, char **argv)
{
    if (argc != 3 || !is_control_socket(atoi(argv[1])) || strcmp(argv[2], VERSION) != 0) {
        fputs("sidecall-supervisor: `sidecall serve` of the same release starts this program\n", stderr);
        return EXIT_MISUSED;
    }
    int control = reset_descriptors(atoi(argv[1]));
    server.longest_grace =
        mmap(NULL, sizeof *server.longest_grace, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (control < 0 || server.longest_grace == MAP_FAILED)
        return EXIT_NO_RESOURCES;
    reset_signals();
    setsid(); /* a Ctrl-C at the server's terminal is the server's */
    take_on("sidecall-fork");
    prctl(PR_SET_PDEATHSIG, SIGCONT); /* so that a server that is killed leaves no stopped fork server */
    send_event(control, &(struct event){.kind = FORKED}); /* ready */
    serve(control);
    wait_for_supervisors();
    return 0;
}
