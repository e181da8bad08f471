#define _GNU_SOURCE

#include "variables.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "failure.h"
#include "paths.h"

static const char SPACE[] = " \t\v\f\r";

static bool add_variable(const char *entry, struct list *variables)
{
    return (strchr(entry, '=') == NULL && getenv(entry) == NULL) || append(variables, entry);
}

/* Return the content of a file with a NUL after it, and its size; NULL, and a failure, if it cannot be read. */
static char *content_of(const char *file, size_t *size)
{
    char *content = take_room(CALL_LIMIT + 2);
    int fd = open(file, O_RDONLY | O_CLOEXEC);
    ssize_t count = fd < 0 ? -1 : 1;
    *size = 0;
    while (content != NULL && fd >= 0 && *size <= CALL_LIMIT &&
           ((count = read(fd, content + *size, CALL_LIMIT + 1 - *size)) > 0 || (count < 0 && errno == EINTR)))
        *size += count > 0 ? (size_t)count : 0;
    int error = errno;
    if (fd >= 0)
        close(fd);
    if (content == NULL || *size > CALL_LIMIT)
        fail(EXIT_USAGE, ENV_FILE_TOO_LONG_TEXT, file, (unsigned long long)CALL_LIMIT);
    else if (count < 0)
        fail(EXIT_USAGE, ENV_FILE_UNREADABLE_TEXT, file, error_text(error));
    if (failure.code != 0)
        return NULL;
    content[*size] = '\0';
    give_back(content);
    return take_room(*size + 1);
}

/* Add the variable in a line of a file, if there is one. */
static bool add_line(char *line, char *end, const char *file, size_t number, struct list *variables)
{
    if (end > line && end[-1] == '\r')
        end--;
    *end = '\0';
    line += strspn(line, SPACE);
    size_t name = strcspn(line, "=");
    if (*line == '#' || line == end)
        return true;
    if (name > 0 && strcspn(line, SPACE) >= name && line + strlen(line) == end)
        return add_variable(line, variables);
    fail(EXIT_USAGE, ENV_FILE_INVALID_TEXT, (unsigned long long)number, file);
    return hint(ENV_FILE_INVALID_HINT);
}

static bool add_file(const char *file, struct list *variables)
{
    size_t size, number = 1;
    char *at = content_of(file, &size);
    if (at == NULL)
        return false;
    char *end = at + size;
    if (strncmp(at, "\xef\xbb\xbf", 3) == 0)
        at += 3;
    for (;; number++) {
        char *line_end = memchr(at, '\n', (size_t)(end - at));
        if (!add_line(at, line_end != NULL ? line_end : end, file, number, variables))
            return false;
        if (line_end == NULL)
            return true;
        at = line_end + 1;
    }
}

bool add_variables(const struct list *files, const struct list *given, struct list *variables)
{
    for (size_t i = 0; i < files->count; i++)
        if (!add_file(files->items[i], variables))
            return false;
    for (size_t i = 0; i < given->count; i++) {
        const char *entry = given->items[i];
        if (*entry == '\0' || *entry == '=')
            return fail(EXIT_USAGE, VARIABLE_INVALID_TEXT, quoted(entry));
        if (!add_variable(entry, variables))
            return false;
    }
    return true;
}
