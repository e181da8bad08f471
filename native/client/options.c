#include "options.h"

#include <stdlib.h>
#include <string.h>

#include "failure.h"
#include "paths.h"

static const struct option *find_option(const struct option *options, const char *name, size_t length)
{
    while (options->name != NULL && (strlen(options->name) != length || memcmp(options->name, name, length) != 0))
        options++;
    return options;
}

static bool add(struct list *list, const char *item, char **rest)
{
    size_t most = 1;
    while (*rest++ != NULL)
        most++;
    if (list->count == 0 && (list->items = take_room(most * sizeof *list->items)) == NULL)
        return fail(EXIT_USAGE, "too many arguments");
    list->items[list->count++] = item;
    return true;
}

static bool unknown_option(const struct option *end, const char *name)
{
    fail(EXIT_USAGE, UNKNOWN_OPTION_TEXT, name);
    return hint(UNKNOWN_OPTION_HINT, end->value);
}

bool parse_options(const struct option *options, int repeatable, char **arguments, struct given *given)
{
    while (*arguments != NULL && (*arguments)[0] == '-' && (*arguments)[1] != '\0') {
        char *name = *arguments++, *equals = strchr(name, '=');
        if (strcmp(name, "--") == 0)
            break;
        const struct option *option = find_option(options, name, equals != NULL ? (size_t)(equals - name) : strlen(name));
        if (equals != NULL)
            *equals = '\0'; /* so that messages name the option alone */
        if (option->name == NULL)
            return unknown_option(option, name);
        const char *value = option->value == NULL ? "" : equals != NULL ? equals + 1 : *arguments;
        if (option->value == NULL && equals != NULL && strcmp(name, "--help") != 0 && strcmp(name, "-h") != 0)
            return fail(EXIT_USAGE, NO_VALUE_TAKEN_TEXT, name);
        if (value == NULL)
            return fail(EXIT_USAGE, VALUE_MISSING_TEXT, name, option->value);
        arguments += option->value != NULL && equals == NULL;
        given->values[option->key] = value;
        if (option->key == repeatable && !add(&given->repeated, value, arguments))
            return false;
        if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0)
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
