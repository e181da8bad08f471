#define _GNU_SOURCE

#include "keeper.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>

#include "descent.h"
#include "execute.h"
#include "line.h"

/* Nanoseconds. */
static const int64_t SECOND = 1000000000;
static const int64_t LINGER = 500000000;      /* what helpers have to finish by themselves after their command did */
static const int64_t STRIKE_AGAIN = 20000000; /* between two rounds of KILL, if no child's end comes before */
static const int64_t NEVER = INT64_MAX;

/* One running command and the plan for its end. */
struct kept {
    pid_t pid;
    bool leave;      /* its helpers, running, when it has ended by itself */
    bool has_ended;  /* it, if not all that it started */
    bool stopping;
    int64_t grace;
    int64_t next_at; /* when something is to be done */
    struct reply end;
};

static int64_t now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * SECOND + time.tv_nsec;
}

static uint64_t microseconds(struct timeval time)
{
    return (uint64_t)time.tv_sec * 1000000 + (uint64_t)time.tv_usec;
}

static void add_usage(struct reply *sum, const struct rusage *usage)
{
    sum->user_us += microseconds(usage->ru_utime);
    sum->system_us += microseconds(usage->ru_stime);
    if ((uint64_t)usage->ru_maxrss > sum->max_rss)
        sum->max_rss = (uint64_t)usage->ru_maxrss;
}

static void note_end(struct kept *kept, int status)
{
    kept->has_ended = true;
    kept->end.number = status;
    kept->end.stopped = kept->stopping;
    if (!kept->stopping)
        kept->next_at = now() + LINGER;
}

/* Reap what has ended; return whether anything is left. */
static bool lives(struct kept *kept)
{
    int status;
    struct rusage usage;
    pid_t pid;
    while ((pid = wait4(-1, &status, WNOHANG, &usage)) > 0) {
        add_usage(&kept->end, &usage);
        if (pid == kept->pid)
            note_end(kept, status);
    }
    return pid == 0;
}

/* Signal the command's process group, which is its own until it has been reaped. */
static void signal_command(const struct kept *kept, int number)
{
    if (!kept->has_ended)
        kill(-kept->pid, number);
}

/* Begin to stop everything, or hurry: TERM now, KILL after the grace; without grace KILL at once. */
static void stop(struct kept *kept, int64_t grace)
{
    int64_t then = now() + grace;
    if (kept->stopping) {
        if (then < kept->next_at)
            kept->next_at = then;
        return;
    }
    lives(kept); /* what has ended by now ends by itself, though it was not reaped yet */
    kept->stopping = true;
    kept->next_at = then;
    if (grace > 0) {
        signal_command(kept, SIGTERM);
        signal_command(kept, SIGCONT);
        ask_descendants(kept->has_ended ? 0 : kept->pid);
    }
}

/* Do what is due. */
static void act(struct kept *kept)
{
    if (kept->next_at > now())
        return;
    if (kept->stopping) {
        for_each_child(kill_child);
        kept->next_at = now() + STRIKE_AGAIN;
    } else {
        stop(kept, kept->grace);
    }
}

/* Wait for a child's end, a word of the server or the next thing to do; return whether it is a word. SIGCHLD gets through
 * here and nowhere else. */
static bool wait_for_word(const struct kept *kept, int line)
{
    struct pollfd poll = {.fd = line, .events = POLLIN};
    int64_t left = kept->next_at == NEVER ? 0 : kept->next_at - now();
    const struct timespec most = {left > 0 ? left / SECOND : 0, left > 0 ? left % SECOND : 0};
    sigset_t but_child;
    sigfillset(&but_child);
    sigdelset(&but_child, SIGCHLD);
    return ppoll(&poll, 1, kept->next_at == NEVER ? NULL : &most, &but_child) > 0;
}

/* Do what the server says; return false, and stop everything, if it has hung up. */
static bool obey(struct kept *kept, int line, struct message *message)
{
    if (!receive_message(line, message)) {
        stop(kept, kept->grace);
        return false;
    }
    close_descriptors(message);
    const struct order *order = (const struct order *)(const void *)message->bytes;
    if (order->kind == SIGNAL)
        signal_command(kept, (int)order->value);
    else if (order->kind == STOP)
        stop(kept, order->value);
    return true;
}

/* Watch a command to its end and stop all that is left of it; return whether there may be another one. */
static bool see_out(struct kept *kept, int line, struct message *message)
{
    int heard = line;
    bool is_left;
    while ((is_left = lives(kept)) && !(kept->has_ended && kept->leave && !kept->stopping)) {
        act(kept);
        if (wait_for_word(kept, heard) && !obey(kept, line, message))
            heard = -1; /* there will be no more words */
    }
    kept->end.kind = GONE;
    kept->end.left = is_left;
    send_reply(line, &kept->end);
    return heard >= 0 && !is_left;
}

/* Run the job that a message is about; return whether there may be another one. */
static bool run(int line, struct message *message)
{
    struct job job;
    struct start_error error = {0, false};
    struct kept kept = {.pid = -1, .next_at = NEVER};
    if (read_job(&job, message)) {
        kept.leave = job.run->leave;
        kept.grace = job.run->grace;
        kept.pid = execute(&job, message->descriptors, &error);
    } else {
        error.number = errno;
    }
    free_job(&job);
    close_descriptors(message);
    if (kept.pid < 0) {
        send_reply(line, &(struct reply){.kind = error.at_folder ? NO_FOLDER : FAILED, .number = error.number});
        return true;
    }
    send_reply(line, &(struct reply){.kind = STARTED});
    return see_out(&kept, line, message);
}

void keep(int line)
{
    static struct message message;
    bool is_wanted = true;
    while (is_wanted && receive_message(line, &message))
        if (message.bytes[0] == RUN) /* a signal that crossed the end of the last command on its way is nobody's */
            is_wanted = run(line, &message);
}
