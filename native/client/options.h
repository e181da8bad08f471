/* Options before positional words, from a table, as cli/options.py reads them: the same refusals in the same words. */

#ifndef OPTIONS_H
#define OPTIONS_H

#include <stdbool.h>
#include <stddef.h>

struct list {
    const char **items;
    size_t count;
};

/* One option, and where it goes: a flag, the last value given, or all of them. */
struct option {
    const char *name;
    const char *value; /* what its value is called; NULL for a flag */
    bool *flag;
    const char **text;
    struct list *list;
};

/* Read options up to the first positional word; `--` ends them too. The table ends with an option without a name.
 * Return the positional words; NULL, and a failure, if an option is unknown, lacks its value or has one too many. Sets
 * *wants_help at `--help`, and reads no further. */
char **parse_options(const struct option *options, char **words, const char *command, bool *wants_help);

/* Set *seconds to a duration, if one was given; fail if it is not positive. */
bool parse_seconds(const char *name, const char *text, double *seconds);

#endif
