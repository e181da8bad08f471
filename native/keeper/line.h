/* What a server and a keeper say to each other, over a SOCK_SEQPACKET socket of one host, in the machine's byte order.
 * src/sidecall/supervise/line.py says the same in Python, and what each field means: change both. */

#ifndef LINE_H
#define LINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define LAYOUT "1" /* of the messages; a server tells what its own is, and no other keeper serves it */

enum kind { RUN = 1, SIGNAL, STOP, STARTED, FAILED, NO_FOLDER, GONE };

enum {
    LONGEST_MESSAGE = 32 << 10,
    MOST_DESCRIPTORS = 4, /* stdin, stdout, stderr, and the file of a job that is too long for a message */
};

/* How RUN begins; limits, groups and strings follow. */
struct run {
    uint8_t kind, leave, has_folder, has_groups;
    int32_t umask; /* -1: as it is */
    int64_t grace; /* nanoseconds */
    uint32_t uid, gid; /* (uint32_t)-1: as it is */
    int32_t nice;
    uint32_t group_count, limit_count, argument_count, variable_count, unused;
};

struct limit {
    uint64_t which, most;
};

struct order {
    uint8_t kind; /* SIGNAL or STOP */
    int64_t value; /* a signal's number, or nanoseconds of grace */
};

struct reply {
    uint8_t kind, stopped, left; /* the latter two are of GONE */
    int32_t number;              /* a wait status, or an error's */
    uint64_t user_us, system_us, max_rss;
};

struct message {
    _Alignas(struct run) uint8_t bytes[LONGEST_MESSAGE];
    size_t size;
    int descriptors[MOST_DESCRIPTORS]; /* -1: none */
};

/* What to run. All of it is in the message that it came with, or in memory of its own. */
struct job {
    const struct run *run;
    const struct limit *limits;
    const gid_t *groups;
    const char *folder; /* NULL: where the keeper is */
    char **arguments, **variables;
    void *file; /* the mapped file of a long job, or NULL */
    size_t file_size;
};

/* Wait for a message; false once the peer is gone. Its descriptors are closed by who takes it. */
bool receive_message(int line, struct message *message);

void close_descriptors(struct message *message);

/* Read the job that a RUN is about; false, and errno, if there is no room for it. */
bool read_job(struct job *job, struct message *message);

void free_job(struct job *job);

/* Say something; a peer that is gone is found out when reading. */
void send_reply(int line, const struct reply *reply);

#endif
