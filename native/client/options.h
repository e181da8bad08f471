/* Options before positional arguments, from the tables that cli/options.py reads too. */

#ifndef OPTIONS_H
#define OPTIONS_H

#include <stdbool.h>
#include <stddef.h>

struct list {
    const char **items;
    size_t count;
};

/* A row of a table in tables.h: a spelling, the placeholder of its value (NULL for a flag), the option that it means. Of
 * an UNSUPPORTED option `value` is the reason, and `instead` what to do. */
struct option {
    const char *name, *value;
    int key;
    const char *instead;
};

enum { MAX_OPTIONS = 32, UNSUPPORTED = -1 };

/* What was given: the last value of each option, "" for a flag, NULL for none; all its values; what follows. */
struct given {
    const char *values[MAX_OPTIONS];
    struct list all[MAX_OPTIONS];
    char **arguments;
};

/* Add an item to a list; return false, and a failure, if there is no room. */
bool append(struct list *list, const char *item);

/* Read options up to the first positional argument; `--` ends them too. The table ends with a row without a name; its
 * `value` is the usage. Short options can be bundled. Reads no further than `--help`.
 * Returns false, and a failure, if an option is unknown or not supported, lacks its value or has one too many. */
bool parse_options(const struct option *options, char **arguments, struct given *given);

/* Set *seconds to a duration, if one was given; fail if it is not positive. `name` comes without its dashes. */
bool parse_seconds(const char *name, const char *text, double *seconds);

#endif
