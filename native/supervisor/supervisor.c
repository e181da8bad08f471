/* Theory of operation
 *
 * A supervisor is a subreaper without any other children than those of its one command. So what it reaps, finds and
 * kills belongs to that command, whatever groups, sessions and environments it made for itself, and wait(2) reports
 * when all of it is gone. The phases of a command:
 *
 *   RUNNING      until it exits or is to be stopped: by a request, or by the end of the control socket
 *   LINGERING    it exited by itself. Its background processes have BACKGROUND_GRACE to exit too (`tee` in
 *                `> >(tee log)`), unless they are kept
 *   TERMINATING  everything got SIGTERM, after SIGHUP in a terminal, and has the grace period
 *   KILLING      everything is frozen and killed (descendants.c), again every KILL_INTERVAL
 *
 * BACKGROUND_GRACE is time in which the processes could run. It is counted in slices that have one length at most,
 * however late this process wakes up, and time that the processes waited for a processor is not counted, up to MAX_DELAY.
 *
 * What cannot be killed for UNKILLABLE_AFTER (another user's process, one that waits for a device or a FUSE daemon) is
 * reported, and this process exits. So it does if a process that failed to become a command does not exit.
 *
 * It blocks in ppoll(2) only, and in vfork(2) while the new process opens the command's file and directory. The server
 * has it killed if it does not answer in time; the fork server then kills what it leaves. */

#define _GNU_SOURCE

#include "supervisor.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>

#include "control.h"
#include "descendants.h"
#include "execute.h"

/* Nanoseconds. */
static const int64_t SECOND = 1000000000;
static const int64_t BACKGROUND_GRACE = 500000000;
static const int64_t SLICE = 50000000;
static const int64_t MAX_DELAY = 2000000000;
static const int64_t KILL_INTERVAL = 20000000;
static const int64_t UNKILLABLE_AFTER = 2000000000;
static const int64_t EXIT_AFTER = 100000000; /* what a process that failed to become a command has to exit */
static const int64_t NEVER = INT64_MAX;

enum { MAX_FREEZE_ROUNDS = 100 };

enum phase { RUNNING, LINGERING, TERMINATING, KILLING };

struct command {
    pid_t pid;
    bool has_terminal;
    bool keeps_background; /* when it has exited by itself */
    bool has_exited;
    enum phase phase;
    int64_t grace;
    int64_t next_at; /* when something is to be done */
    int64_t give_up_at;
    int64_t slept_at, grace_left, delay_left; /* of LINGERING */
    uint64_t delay;
    struct event end;
};

static _Atomic int64_t *longest_grace;

static int64_t now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * SECOND + time.tv_nsec;
}

static int64_t smaller(int64_t one, int64_t other)
{
    return one < other ? one : other;
}

static uint64_t microseconds(struct timeval time)
{
    return (uint64_t)time.tv_sec * 1000000 + (uint64_t)time.tv_usec;
}

static void note_grace(int64_t grace)
{
    int64_t longest = atomic_load(longest_grace);
    while (longest < grace && !atomic_compare_exchange_weak(longest_grace, &longest, grace))
        ;
}

static void add_usage(struct event *sum, const struct rusage *usage)
{
    sum->user_us += microseconds(usage->ru_utime);
    sum->system_us += microseconds(usage->ru_stime);
    if ((uint64_t)usage->ru_maxrss > sum->max_rss)
        sum->max_rss = (uint64_t)usage->ru_maxrss;
}

static void begin_slice(struct command *command)
{
    command->slept_at = now();
    command->next_at = command->slept_at + smaller(SLICE, command->grace_left);
}

static void note_exit(struct command *command, int status)
{
    command->has_exited = true;
    command->end.number = status;
    command->end.was_running = command->phase != RUNNING;
    if (command->phase == RUNNING) {
        command->phase = LINGERING;
        command->grace_left = BACKGROUND_GRACE;
        command->delay_left = MAX_DELAY;
        command->delay = UINT64_MAX; /* not measured yet */
        begin_slice(command);
    }
}

/* Reap what has exited; return whether anything is left. */
static bool reap(struct command *command)
{
    int status;
    struct rusage usage;
    pid_t pid;
    while ((pid = wait4(-1, &status, WNOHANG, &usage)) > 0) {
        add_usage(&command->end, &usage);
        if (pid == command->pid)
            note_exit(command, status);
    }
    return pid == 0;
}

/* Signal the command's process group, whose number is its own until it has been reaped. */
static void signal_command(const struct command *command, int number)
{
    if (!command->has_exited)
        kill(-command->pid, number);
}

/* Begin to stop everything, or hurry: SIGTERM now, SIGKILL after the grace period; without one SIGKILL at once. In a
 * terminal SIGHUP comes first, since an interactive shell ignores SIGTERM. */
static void stop(struct command *command, int64_t grace)
{
    int64_t then = now() + grace;
    note_grace(grace);
    if (command->phase >= TERMINATING) {
        command->next_at = smaller(command->next_at, then);
        return;
    }
    reap(command); /* what has exited by now exited by itself, though it was not reaped yet */
    if (command->has_exited)
        command->end.terminated = survey_descendants(NULL).count;
    command->phase = TERMINATING;
    command->next_at = then;
    if (grace > 0) {
        if (command->has_terminal)
            signal_command(command, SIGHUP);
        signal_command(command, SIGTERM);
        signal_command(command, SIGCONT);
        terminate_descendants(command->has_exited ? 0 : command->pid);
    }
}

/* Freeze and kill everything. */
static void kill_all(struct command *command)
{
    if (command->phase != KILLING)
        command->give_up_at = now() + UNKILLABLE_AFTER;
    command->phase = KILLING;
    for (int i = 0; i < MAX_FREEZE_ROUNDS && freeze_descendants(NULL); i++)
        reap(command);
    kill_descendants(NULL);
    command->next_at = now() + KILL_INTERVAL;
}

/* Count a slice of BACKGROUND_GRACE, less what the background processes waited for a processor in it. */
static void linger(struct command *command)
{
    const struct population population = survey_descendants(NULL);
    int64_t slice = smaller(smaller(SLICE, command->grace_left), now() - command->slept_at), delay = 0;
    if (population.delay > command->delay)
        delay = smaller((int64_t)(population.delay - command->delay), smaller(slice, command->delay_left));
    command->delay = population.delay;
    command->delay_left -= delay;
    command->grace_left -= slice - delay;
    if (command->grace_left <= 0)
        stop(command, command->grace);
    else
        begin_slice(command);
}

/* Do what is due. */
static void run_timers(struct command *command)
{
    if (command->next_at > now())
        return;
    if (command->phase == LINGERING)
        linger(command);
    else
        kill_all(command);
}

/* Wait for the exit of a child, a message or a time; return whether it is a message. SIGCHLD gets through here and
 * nowhere else. */
static bool wait_for_message(int control, int64_t until)
{
    struct pollfd poll = {.fd = control, .events = POLLIN};
    int64_t left = until == NEVER ? 0 : until - now();
    const struct timespec most = {left > 0 ? left / SECOND : 0, left > 0 ? left % SECOND : 0};
    sigset_t except_child;
    sigfillset(&except_child);
    sigdelset(&except_child, SIGCHLD);
    return ppoll(&poll, 1, until == NEVER ? NULL : &most, &except_child) > 0;
}

/* Do what the server requests; return false, and stop everything, if it has closed the control socket. */
static bool handle_request(struct command *command, int control, struct message *message)
{
    if (!receive_message(control, message)) {
        stop(command, command->grace);
        return false;
    }
    const struct request *request = (const struct request *)(const void *)message->bytes;
    if (request->kind == SIGNAL)
        signal_command(command, (int)request->value);
    else if (request->kind == STOP)
        stop(command, request->value);
    return true;
}

/* Tell whether there is nothing more to wait for, though something is left. */
static bool is_given_up(const struct command *command)
{
    return (command->has_exited && command->keeps_background && command->phase == LINGERING) ||
           (command->phase == KILLING && now() > command->give_up_at);
}

/* Wait for the command to exit, and terminate what is left of it; return whether there can be another one. */
static bool wait_and_clean_up(struct command *command, int control, struct message *message)
{
    int polled = control;
    bool is_left;
    while ((is_left = reap(command)) && !is_given_up(command)) {
        if (wait_for_message(polled, command->next_at) && !handle_request(command, control, message))
            polled = -1; /* there will be no more messages */
        if (reap(command))
            run_timers(command);
    }
    command->end.kind = EXITED;
    command->end.kept = is_left && command->phase == LINGERING;
    if (is_left && !command->end.kept)
        command->end.remaining = survey_descendants(NULL).count;
    command->end.is_last = is_left;
    send_event(control, &command->end);
    return polled >= 0 && !is_left;
}

/* Wait for a process that did not become a command, a short time; return whether it has exited. */
static bool has_exited_soon(pid_t child)
{
    int64_t until = now() + EXIT_AFTER;
    pid_t pid;
    while ((pid = waitpid(child, NULL, WNOHANG)) == 0 && now() < until)
        wait_for_message(-1, until);
    return pid != 0;
}

/* Run the job of a message; return whether there can be another one, and whether anything is left behind. */
static bool run(int control, struct message *message, bool *is_clean)
{
    struct job job;
    struct start_error error = {0, AT_FORK};
    struct command command = {.pid = -1, .next_at = NEVER, .end = {.number = -1}};
    pid_t child = -1;
    if (read_job(&job, message)) {
        command.has_terminal = job.run->has_terminal;
        command.keeps_background = job.run->keep_background;
        command.grace = job.run->grace;
        note_grace(command.grace);
        command.pid = execute(&job, &error, &child);
    } else {
        error.number = errno;
    }
    free_job(&job);
    close_descriptors(message); /* they are the server's; the client's own are in none but the new process */
    if (command.pid < 0) {
        *is_clean = child < 0 || has_exited_soon(child);
        send_event(control, &(struct event){.kind = FAILED,
                                            .stage = (uint8_t)error.stage,
                                            .number = error.number,
                                            .is_last = !*is_clean});
        return *is_clean;
    }
    send_event(control, &(struct event){.kind = STARTED});
    bool is_reusable = wait_and_clean_up(&command, control, message);
    *is_clean = !command.end.is_last || command.end.kept;
    return is_reusable;
}

bool supervise(int control, _Atomic int64_t *grace)
{
    static struct message message;
    bool is_wanted = true, is_clean = true;
    longest_grace = grace;
    /* A signal that arrives after the command has exited is ignored. So is DISCARD: the descriptor that came with it is
     * closed when this process exits, which does not wait, as close(2) would. */
    while (is_wanted && receive_message(control, &message))
        if (message.bytes[0] == RUN)
            is_wanted = run(control, &message, &is_clean);
    return is_clean;
}
