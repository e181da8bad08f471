#define _GNU_SOURCE

#include "descent.h"

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

struct process {
    pid_t pid, parent, group;
    bool is_ours; /* this process, or a descendant of it */
};

/* All processes that can be seen, by pid. */
struct census {
    struct process *processes;
    size_t count, room;
};

/* Look up the parent and the group of a process; false if it is gone. */
static bool look_up(struct process *process)
{
    char path[32], text[256]; /* the name within has up to 64 bytes, of any kind: proc_pid_stat(5) */
    snprintf(path, sizeof path, "/proc/%d/stat", process->pid);
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return false;
    text[fread(text, 1, sizeof text - 1, file)] = '\0';
    fclose(file);
    const char *after_name = strrchr(text, ')');
    return after_name != NULL && sscanf(after_name, ") %*c %d %d", &process->parent, &process->group) == 2;
}

static bool add(struct census *census, struct process process)
{
    if (census->count == census->room) {
        size_t room = census->room * 2 + 64;
        struct process *more = realloc(census->processes, room * sizeof *more);
        if (more == NULL)
            return false;
        census->processes = more;
        census->room = room;
    }
    census->processes[census->count++] = process;
    return true;
}

static int by_pid(const void *one, const void *other)
{
    pid_t first = ((const struct process *)one)->pid, second = ((const struct process *)other)->pid;
    return (first > second) - (first < second);
}

/* Take note of all processes, or of as many as there is memory for; return whether it is all. */
static bool take_census(struct census *census)
{
    bool is_whole = true;
    DIR *folder = opendir("/proc");
    if (folder == NULL)
        return false;
    for (struct dirent *entry; is_whole && (entry = readdir(folder)) != NULL;) {
        struct process process = {.pid = atoi(entry->d_name)};
        process.is_ours = process.pid == getpid();
        if (process.pid > 0 && look_up(&process))
            is_whole = add(census, process);
    }
    closedir(folder);
    if (census->count > 0)
        qsort(census->processes, census->count, sizeof *census->processes, by_pid);
    return is_whole;
}

/* Do something with every child, by looking at all processes. */
static bool for_each_child_seen(void (*act)(pid_t child))
{
    struct census census = {NULL, 0, 0};
    bool is_whole = take_census(&census);
    for (size_t i = 0; i < census.count; i++)
        if (census.processes[i].parent == getpid())
            act(census.processes[i].pid);
    free(census.processes);
    return is_whole;
}

bool for_each_child(void (*act)(pid_t child))
{
    char path[48];
    snprintf(path, sizeof path, "/proc/self/task/%d/children", getpid());
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return errno == ENOENT && for_each_child_seen(act); /* a kernel without CONFIG_PROC_CHILDREN */
    for (pid_t child; fscanf(file, "%d", &child) == 1;)
        act(child);
    bool is_whole = !ferror(file);
    fclose(file);
    return is_whole;
}

void kill_child(pid_t child)
{
    pid_t group = getpgid(child);
    if (group > 0 && group != getpgrp())
        kill(-group, SIGKILL);
    kill(child, SIGKILL);
}

static bool is_ours(const struct census *census, pid_t pid)
{
    const struct process key = {.pid = pid};
    const struct process *found = bsearch(&key, census->processes, census->count, sizeof key, by_pid);
    return found != NULL && found->is_ours;
}

/* Mark the children of those that are ours; return whether there was one that had not been marked. */
static bool mark_children(struct census *census)
{
    bool more = false;
    for (size_t i = 0; i < census->count; i++) {
        struct process *process = census->processes + i;
        if (!process->is_ours && is_ours(census, process->parent))
            more = process->is_ours = true;
    }
    return more;
}

/* Ask a process to end if it still is of the family: its pid may be somebody else's by now. */
static void ask(const struct census *census, struct process process)
{
    int pidfd = (int)syscall(SYS_pidfd_open, process.pid, 0);
    if (pidfd < 0)
        return;
    if (look_up(&process) && is_ours(census, process.parent)) {
        syscall(SYS_pidfd_send_signal, pidfd, SIGTERM, NULL, 0);
        syscall(SYS_pidfd_send_signal, pidfd, SIGCONT, NULL, 0); /* one that is stopped cannot act on TERM alone */
    }
    close(pidfd);
}

void ask_descendants(pid_t but_group)
{
    struct census census = {NULL, 0, 0};
    take_census(&census);
    while (census.count > 0 && mark_children(&census))
        ;
    for (size_t i = 0; i < census.count; i++) {
        const struct process *process = census.processes + i;
        if (process->is_ours && process->pid != getpid() && process->group != but_group)
            ask(&census, *process);
    }
    free(census.processes);
}
