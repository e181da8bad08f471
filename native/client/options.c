#include "options.h"

#include <stdlib.h>
#include <string.h>

#include "failure.h"
#include "paths.h"

static const struct option *find_option(const struct option *options, const char *name)
{
    while (options->name != NULL && strcmp(options->name, name) != 0)
        options++;
    return options;
}

static bool is_help(const char *name)
{
    return strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0;
}

bool append(struct list *list, const char *item)
{
    if ((list->count & (list->count - 1)) == 0) { /* it has room for a power of two */
        const char **items = take_room((list->count > 0 ? 2 * list->count : 1) * sizeof *items);
        if (items == NULL)
            return fail(EXIT_USAGE, "too many arguments");
        if (list->count > 0)
            memcpy(items, list->items, list->count * sizeof *items);
        list->items = items;
    }
    list->items[list->count++] = item;
    return true;
}

/* Whether an argument is an option, perhaps with its value behind `=`. */
static bool is_option(const struct option *options, const char *argument)
{
    size_t length = strcspn(argument, "=");
    while (options->name != NULL && (strlen(options->name) != length || memcmp(options->name, argument, length) != 0))
        options++;
    return options->name != NULL;
}

static bool option_as_value(const char *name, const char *value, char *given)
{
    given[strcspn(given, "=")] = '\0';
    fail(EXIT_USAGE, VALUE_IS_OPTION_TEXT, name, value, given);
    return hint(VALUE_IS_OPTION_HINT, name, given);
}

/* Note an option with the value that is in the same argument, or NULL; else take the next one if it needs a value. */
static bool take_option(const struct option *options, const char *name, const char *value, char ***next, struct given *given)
{
    const struct option *option = find_option(options, name);
    if (option->name == NULL) {
        fail(EXIT_USAGE, UNKNOWN_OPTION_TEXT, name);
        return hint(UNKNOWN_OPTION_HINT, option->value);
    }
    if (option->key == UNSUPPORTED) {
        fail(EXIT_USAGE, UNSUPPORTED_OPTION_TEXT, name, option->value);
        return hint(UNSUPPORTED_OPTION_HINT, option->instead);
    }
    if (option->value == NULL) {
        given->values[option->key] = "";
        return value == NULL || is_help(name) || fail(EXIT_USAGE, NO_VALUE_TAKEN_TEXT, name);
    }
    if (value == NULL) {
        if (**next == NULL)
            return fail(EXIT_USAGE, VALUE_MISSING_TEXT, name, option->value);
        if (is_option(options, **next))
            return option_as_value(name, option->value, **next);
        value = *(*next)++;
    }
    given->values[option->key] = value;
    return append(&given->all[option->key], value);
}

/* Take `-abc`, which are `-a -b -c`, or `-a bc` if `-a` needs a value. */
static bool take_short_options(const struct option *options, const char *letters, char ***next, struct given *given)
{
    const char *end = letters + strlen(letters);
    while (letters < end) {
        char name[8] = "-";
        const uint8_t *after = (const uint8_t *)letters;
        decode(&after, (const uint8_t *)end);
        size_t size = (size_t)((const char *)after - letters);
        memcpy(name + 1, letters, size);
        letters += size;
        const struct option *option = find_option(options, name);
        bool is_last = *letters == '=' || (*letters != '\0' && option->value != NULL);
        if (!take_option(options, name, is_last ? letters + (*letters == '=') : NULL, next, given))
            return false;
        if (is_last || is_help(name))
            break;
    }
    return true;
}

bool parse_options(const struct option *options, char **arguments, struct given *given)
{
    while (*arguments != NULL && (*arguments)[0] == '-' && (*arguments)[1] != '\0') {
        char *name = *arguments++;
        if (strcmp(name, "--") == 0)
            break;
        if (name[1] != '-') {
            if (!take_short_options(options, name + 1, &arguments, given))
                return false;
        } else {
            char *equals = strchr(name, '=');
            if (equals != NULL)
                *equals = '\0'; /* so that messages name the option alone */
            if (!take_option(options, name, equals != NULL ? equals + 1 : NULL, &arguments, given))
                return false;
        }
        if (given->values[find_option(options, "--help")->key] != NULL)
            break;
    }
    given->arguments = arguments;
    return true;
}

bool parse_seconds(const char *name, const char *text, double *seconds)
{
    char *end;
    if (text == NULL || *text == '\0')
        return true;
    *seconds = strtod(text, &end);
    if (*end == '\0' && strspn(text, "0123456789+-.eE") == strlen(text) && *seconds > 0 && *seconds < 1e9)
        return true;
    return fail(EXIT_USAGE, SECONDS_INVALID_TEXT, name, quoted(text));
}
