#define _GNU_SOURCE

#include "control.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

static_assert(sizeof(struct run) == 64 && sizeof(struct request) == 16 && sizeof(struct event) == 48, "as in control.py");

static void take_descriptors(struct message *message, struct msghdr *header)
{
    for (int i = 0; i < MAX_DESCRIPTORS; i++)
        message->descriptors[i] = -1;
    struct cmsghdr *control = CMSG_FIRSTHDR(header);
    if (control != NULL && control->cmsg_type == SCM_RIGHTS)
        memcpy(message->descriptors, CMSG_DATA(control), control->cmsg_len - CMSG_LEN(0));
}

bool receive_message(int control, struct message *message)
{
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(MAX_DESCRIPTORS * sizeof(int))];
    } buffer;
    struct iovec data = {message->bytes, sizeof message->bytes};
    struct msghdr header = {
        .msg_iov = &data, .msg_iovlen = 1, .msg_control = buffer.bytes, .msg_controllen = sizeof buffer.bytes};
    ssize_t size;
    while ((size = recvmsg(control, &header, MSG_CMSG_CLOEXEC)) < 0 && errno == EINTR)
        ;
    if (size <= 0) /* a peer that closed its end with unread messages is reported as ECONNRESET: unix(7) */
        return false;
    message->size = (size_t)size;
    take_descriptors(message, &header);
    return true;
}

void close_descriptors(struct message *message)
{
    for (int i = 0; i < MAX_DESCRIPTORS; i++)
        if (message->descriptors[i] >= 0)
            close(message->descriptors[i]);
}

/* Point at `count` strings, one after the other from `at` on; false if they go beyond `end`. */
static bool point_at(char **pointers, size_t count, char **at, const char *end)
{
    for (size_t i = 0; i < count; i++) {
        char *nul = memchr(*at, '\0', (size_t)(end - *at));
        if (nul == NULL)
            return false;
        pointers[i] = *at;
        *at = nul + 1;
    }
    return true;
}

static bool parse_job(struct job *job, uint8_t *bytes, size_t size)
{
    job->run = (const struct run *)(void *)bytes;
    job->limits = (const struct limit *)(const void *)(job->run + 1);
    job->groups = (const gid_t *)(const void *)(job->limits + job->run->limit_count);
    size_t argument_count = job->run->argument_count, variable_count = job->run->variable_count;
    job->path_count = job->run->path_count;
    job->arguments = calloc(argument_count + 1 + variable_count + 1 + job->path_count, sizeof *job->arguments);
    if (job->arguments == NULL)
        return false;
    job->variables = job->arguments + argument_count + 1;
    job->paths = job->variables + variable_count + 1;
    char *directory = NULL, *at = (char *)(uintptr_t)(job->groups + job->run->group_count);
    const char *end = (const char *)bytes + size;
    errno = EPROTO;
    if (at > end || !point_at(&directory, job->run->has_directory, &at, end))
        return false;
    job->directory = directory;
    return point_at(job->arguments, argument_count, &at, end) && point_at(job->variables, variable_count, &at, end) &&
           point_at(job->paths, job->path_count, &at, end) && argument_count > 0;
}

/* Map the file that a long job came in. */
static bool map_job(struct job *job, int file)
{
    struct stat status;
    if (fstat(file, &status) != 0)
        return false;
    void *bytes = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_PRIVATE, file, 0);
    if (bytes == MAP_FAILED)
        return false;
    job->file = bytes;
    job->file_size = (size_t)status.st_size;
    return true;
}

/* Sort out the descriptors of a job: those of given streams, the client's connection if a stream is passed, the file of
 * a long job. False if some did not arrive: this process has no room for them. */
static bool assign_descriptors(struct job *job, int *file, const struct run *run, const int *descriptors)
{
    size_t next = 0, given = 0;
    bool needs_connection = false, is_whole = true;
    for (int i = 0; i < 3; i++) {
        needs_connection = needs_connection || is_passed(run, i);
        if (run->sources[i] == GIVEN)
            is_whole = (job->given[given++] = descriptors[next++]) >= 0 && is_whole;
    }
    if (needs_connection)
        is_whole = (job->connection = descriptors[next++]) >= 0 && is_whole;
    if (run->is_long)
        is_whole = (*file = descriptors[next]) >= 0 && is_whole;
    errno = EMFILE;
    return is_whole;
}

bool read_job(struct job *job, struct message *message)
{
    int file = -1;
    *job = (struct job){.connection = -1};
    if (!assign_descriptors(job, &file, (const struct run *)(void *)message->bytes, message->descriptors))
        return false;
    if (file < 0)
        return parse_job(job, message->bytes, message->size);
    return map_job(job, file) && parse_job(job, job->file, job->file_size);
}

void free_job(struct job *job)
{
    free(job->arguments);
    if (job->file != NULL)
        munmap(job->file, job->file_size);
}

void send_event(int control, const struct event *event)
{
    while (send(control, event, sizeof *event, MSG_NOSIGNAL) < 0 && errno == EINTR)
        ;
}
