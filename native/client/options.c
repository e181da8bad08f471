#include "options.h"

#include <stdlib.h>
#include <string.h>

#include "failure.h"
#include "paths.h"

static bool is_help(const char *word, size_t length)
{
    return (length == 6 && memcmp(word, "--help", 6) == 0) || (length == 2 && memcmp(word, "-h", 2) == 0);
}

static const struct option *find_option(const struct option *options, const char *word, size_t length)
{
    for (const struct option *option = options; option->name != NULL; option++)
        if (strlen(option->name) == length && memcmp(option->name, word, length) == 0)
            return option;
    return NULL;
}

static bool add(struct list *list, const char *item, char **rest)
{
    size_t most = 1;
    while (*rest++ != NULL)
        most++;
    if (list->count == 0 && (list->items = take_room(most * sizeof *list->items)) == NULL)
        return fail(EXIT_USAGE, "there are too many words");
    list->items[list->count++] = item;
    return true;
}

/* Take an option's value from the word itself or from the next one; return the word after it. */
static char **take_value(const struct option *option, const char *equals, char **next)
{
    const char *value = equals != NULL ? equals + 1 : *next;
    if (option->value == NULL) {
        if (equals == NULL)
            *option->flag = true;
        else
            fail(EXIT_USAGE, "%s takes no value", option->name);
    } else if (value == NULL) {
        fail(EXIT_USAGE, "%s needs a value: %s", option->name, option->value);
    } else {
        next += equals == NULL;
        if (option->text != NULL)
            *option->text = value;
        else
            add(option->list, value, next);
    }
    return failure.code == 0 ? next : NULL;
}

char **parse_options(const struct option *options, char **words, const char *command, bool *wants_help)
{
    while (words != NULL && *words != NULL && (*words)[0] == '-' && (*words)[1] != '\0') {
        const char *word = *words++, *equals = strchr(word, '=');
        if (strcmp(word, "--") == 0)
            break;
        size_t length = equals != NULL ? (size_t)(equals - word) : strlen(word);
        const struct option *option = find_option(options, word, length);
        *wants_help = is_help(word, length);
        if (*wants_help)
            break;
        if (option == NULL) {
            fail(EXIT_USAGE, "unknown option %.*s", (int)length, word);
            hint("see `sidecall %s --help`", command);
            return NULL;
        }
        words = take_value(option, equals, words);
    }
    return words;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* Read a number as Python's float() does: spaces around it, underscores between digits. Return -1 if it is none. */
static double number_of(const char *text)
{
    static const char spaces[] = " \t\n\v\f\r";
    text += strspn(text, spaces);
    char *copy = take_room(strlen(text) + 1), *into = copy, *end;
    if (copy == NULL || strspn(text, "0123456789+-.eE_ \t\n\v\f\r") != strlen(text))
        return -1;
    for (size_t i = 0; text[i] != '\0'; i++) {
        if (text[i] != '_')
            *into++ = text[i];
        else if (i == 0 || !is_digit(text[i - 1]) || !is_digit(text[i + 1]))
            return -1;
    }
    *into = '\0';
    double number = strtod(copy, &end);
    return end > copy && end[strspn(end, spaces)] == '\0' ? number : -1;
}

bool parse_seconds(const char *name, const char *text, double *seconds)
{
    if (text == NULL || *text == '\0')
        return true;
    *seconds = number_of(text);
    if (*seconds > 0 && *seconds < 1e9)
        return true;
    return fail(EXIT_USAGE, "%s takes a positive number of seconds, not %s", name, repr(text));
}
