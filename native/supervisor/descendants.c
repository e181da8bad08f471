/* Theory of operation
 *
 * A descendant whose parent exits becomes a child of this process, its subreaper, at once. So as long as a descendant
 * lives there is a child, and a walk from the children on reaches all that hold still: prctl(2), proc_pid_task(5).
 *
 * Processes that fork faster than they are killed do not hold still. They are frozen first: SIGSTOP to all in walk after
 * walk until one finds none that runs. A stopped process cannot fork, and one that has the signal pending cannot either:
 * fork(2) fails and is restarted after the stop. A process is signalled before its children are listed, so those are all
 * that it will have. Then SIGKILL, in one more walk.
 *
 * A child's pid stays its own until this process reaps it. That of a deeper descendant could be another process' at any
 * time, so it is held by a pidfd, then looked at, and then signalled through the pidfd. Without pidfd (before Linux 5.3,
 * or refused by a filter) microseconds lie between the look and the signal. */

#define _GNU_SOURCE

#include "descendants.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef CHILDREN_FILE
#define CHILDREN_FILE "children" /* a test names one that does not exist, as in a kernel without CONFIG_PROC_CHILDREN */
#endif

struct process {
    pid_t pid, parent, group;
    char state;
    int threads;
    int pidfd; /* -1: none */
};

struct link {
    pid_t pid, parent;
};

/* A list of processes that grows. Without memory for more it is cut short: a later walk finds the rest. */
struct list {
    struct link *links;
    size_t count, room;
};

static void append(struct list *list, pid_t pid, pid_t parent)
{
    if (list->count == list->room) {
        size_t room = list->room * 2 + 64;
        struct link *more = realloc(list->links, room * sizeof *more);
        if (more == NULL)
            return;
        list->links = more;
        list->room = room;
    }
    list->links[list->count++] = (struct link){pid, parent};
}

/* Read a file of /proc into a buffer, as a string; return its length, -1 if it cannot be read. */
static ssize_t read_file(const char *path, char *text, size_t size)
{
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0)
        return -1;
    ssize_t length = read(file, text, size - 1);
    close(file);
    text[length > 0 ? length : 0] = '\0';
    return length;
}

/* Look up what is known of a process; false if it does not exist any more. */
static bool look_up(struct process *process)
{
    char path[32], text[512]; /* the name within has up to 64 bytes, of any kind: proc_pid_stat(5) */
    snprintf(path, sizeof path, "/proc/%d/stat", process->pid);
    if (read_file(path, text, sizeof text) <= 0)
        return false;
    const char *after_name = strrchr(text, ')');
    return after_name != NULL &&
           sscanf(after_name, ") %c %d %d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %d", &process->state,
                  &process->parent, &process->group, &process->threads) == 4;
}

/* Append every process that can be seen. */
static void list_all(struct list *list)
{
    DIR *directory = opendir("/proc");
    if (directory == NULL)
        return;
    for (struct dirent *entry; (entry = readdir(directory)) != NULL;) {
        struct process process = {.pid = atoi(entry->d_name)};
        if (process.pid > 0 && look_up(&process))
            append(list, process.pid, process.parent);
    }
    closedir(directory);
}

/* Append the children of one thread; false if the kernel does not list them. */
static bool list_children_of_thread(struct list *list, pid_t parent, int thread)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/task/%d/" CHILDREN_FILE, parent, thread);
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return false;
    for (pid_t child; fscanf(file, "%d", &child) == 1;)
        append(list, child, parent);
    fclose(file);
    return true;
}

/* Append the children of a process: each thread has its own. */
static void list_children(struct list *list, pid_t parent)
{
    char path[32];
    snprintf(path, sizeof path, "/proc/%d/task", parent);
    DIR *directory = opendir(path);
    if (directory == NULL)
        return;
    for (struct dirent *entry; (entry = readdir(directory)) != NULL;)
        if (entry->d_name[0] != '.')
            list_children_of_thread(list, parent, atoi(entry->d_name));
    closedir(directory);
}

/* Append the children of a process, out of a list of all processes. */
static void select_children(struct list *list, pid_t parent, const struct list *all)
{
    for (size_t i = 0; i < all->count; i++)
        if (all->links[i].parent == parent)
            append(list, all->links[i].pid, parent);
}

/* Look at a descendant, and hold its pid if it is no child; false if it is not the process that was found. */
static bool hold(struct process *process, struct link found)
{
    *process = (struct process){.pid = found.pid, .pidfd = -1};
    if (found.parent != getpid())
        process->pidfd = (int)syscall(SYS_pidfd_open, found.pid, 0);
    return look_up(process) && (process->parent == found.parent || process->parent == getpid());
}

static bool send_signal(const struct process *process, int number)
{
    if (process->pidfd >= 0)
        return syscall(SYS_pidfd_send_signal, process->pidfd, number, NULL, 0) == 0;
    return kill(process->pid, number) == 0;
}

static bool is_zombie(const struct process *process)
{
    return process->state == 'X' || (process->state == 'Z' && process->threads <= 1);
}

/* Do something with every descendant, with each process before its children. */
static void walk(is_spared *spared, void (*visit)(const struct process *, void *), void *context)
{
    struct list pending = {NULL, 0, 0}, all = {NULL, 0, 0};
    bool is_listed = list_children_of_thread(&pending, getpid(), getpid());
    if (!is_listed) {
        list_all(&all);
        select_children(&pending, getpid(), &all);
    }
    while (pending.count > 0) {
        struct link next = pending.links[--pending.count];
        struct process process;
        if (next.parent == getpid() && spared != NULL && spared(next.pid))
            continue;
        if (hold(&process, next) && !is_zombie(&process)) {
            visit(&process, context);
            if (is_listed)
                list_children(&pending, next.pid);
            else
                select_children(&pending, next.pid, &all);
        }
        if (process.pidfd >= 0)
            close(process.pidfd);
    }
    free(pending.links);
    free(all.links);
}

static void terminate(const struct process *process, void *except_group)
{
    if (process->group == *(const pid_t *)except_group)
        return;
    send_signal(process, SIGTERM);
    send_signal(process, SIGCONT); /* a stopped process cannot act on SIGTERM alone */
}

void terminate_descendants(pid_t except_group)
{
    walk(NULL, terminate, &except_group);
}

static void freeze(const struct process *process, void *found)
{
    if (process->state != 'T' && process->state != 't' && send_signal(process, SIGSTOP))
        *(bool *)found = true;
}

bool freeze_descendants(is_spared *spared)
{
    bool found = false;
    walk(spared, freeze, &found);
    return found;
}

static void strike(const struct process *process, void *context)
{
    (void)context;
    send_signal(process, SIGKILL);
}

void kill_descendants(is_spared *spared)
{
    walk(spared, strike, NULL);
}

static void count(const struct process *process, void *context)
{
    struct population *population = context;
    char path[32], text[96];
    unsigned long long delay = 0;
    population->count++;
    snprintf(path, sizeof path, "/proc/%d/schedstat", process->pid);
    if (read_file(path, text, sizeof text) > 0 && sscanf(text, "%*u %llu", &delay) == 1)
        population->delay += delay;
}

struct population survey_descendants(is_spared *spared)
{
    struct population population = {0, 0};
    walk(spared, count, &population);
    return population;
}
