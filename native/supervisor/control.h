/* The messages between a server and its fork server and supervisors: SOCK_SEQPACKET sockets of one host, in the machine's
 * byte order. src/sidecall/supervise/control.py is the other end and explains each field; tests/supervise/test_control.py
 * compares the two files. */

#ifndef CONTROL_H
#define CONTROL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define VERSION "4" /* of the messages; a fork server that has another one does not start */

/* clang-format off */
enum kind {
    RUN = 1, SIGNAL, STOP, DISCARD,                    /* server to supervisor */
    STARTED, FAILED, EXITED,                           /* supervisor to server */
    NEW, KILL,                                         /* server to fork server */
    FORKED, NOT_FORKED, KILLED                         /* fork server to server */
};
/* clang-format on */

/* Where a stream of a command comes from. */
enum source { GIVEN, FROM_CLIENT, SAME_AS_STDOUT, UNWANTED };

/* What failed when a command was to be started. */
enum stage { AT_FORK = 1, AT_MISSING_DESCRIPTORS, AT_MALFORMED_DESCRIPTORS, AT_CHDIR, AT_IDENTITY, AT_EXEC, AT_INTERPRETER, AT_CONFINE };

enum {
    MAX_MESSAGE = 32 << 10,
    MAX_DESCRIPTORS = 4, /* three given streams and a long job; or two, the client's connection and a long job */
};

/* How RUN begins; limits, groups and strings follow. */
struct run {
    uint8_t kind, keep_background, has_directory, has_groups;
    uint8_t sources[3], is_long;
    int64_t grace;      /* nanoseconds */
    int32_t umask;      /* -1: unchanged */
    int32_t nice;
    int32_t oom_score_adj;
    uint32_t uid, gid;  /* (uint32_t)-1: unchanged */
    uint32_t group_count, limit_count, argument_count, variable_count;
    uint32_t has_terminal; /* stdin, which becomes the controlling terminal */
    uint32_t path_count, unused;
};

struct limit {
    uint64_t resource, value;
};

struct request {
    uint8_t kind;  /* all kinds that a server sends but RUN */
    _Alignas(8) int64_t value; /* a signal's number, nanoseconds of grace, or a supervisor's serial number */
};

struct event {
    uint8_t kind, stage, was_running, kept; /* stage: of FAILED; the latter two: of EXITED */
    int32_t number;                         /* a wait status, -1 if it is unknown; or an error's */
    uint32_t serial;                        /* of the fork server's events */
    uint32_t terminated, remaining, is_last;
    uint64_t user_us, system_us, max_rss;
};

/* Tell whether the client passes a stream, whether the command gets it or not. */
static inline bool is_passed(const struct run *run, int stream)
{
    return run->sources[stream] == FROM_CLIENT || run->sources[stream] == UNWANTED;
}

struct message {
    _Alignas(struct run) uint8_t bytes[MAX_MESSAGE];
    size_t size;
    int descriptors[MAX_DESCRIPTORS]; /* -1: none */
};

/* What to execute. All of it is in the message that it came with, or in memory of its own. */
struct job {
    const struct run *run;
    const struct limit *limits;
    const gid_t *groups;
    const char *directory; /* NULL: the supervisor's own */
    char **arguments, **variables;
    char **paths; /* that it is confined to: see confine.h */
    size_t path_count;
    void *file; /* the mapped file of a long job, or NULL */
    size_t file_size;
    int given[3]; /* the descriptors of the streams that are GIVEN, in order */
    int connection;
};

/* Wait for a message; false once the peer is gone. The caller owns its descriptors. */
bool receive_message(int control, struct message *message);

void close_descriptors(struct message *message);

/* Read the job of a RUN; false, and errno, if it cannot be read. */
bool read_job(struct job *job, struct message *message);

void free_job(struct job *job);

/* Send an event; a peer that is gone is noticed when reading. */
void send_event(int control, const struct event *event);

#endif
