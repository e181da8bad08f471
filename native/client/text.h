/* Texts: whatever a stranger put into a sentence, it is one printable line, in the characters that Python would show. */

#ifndef TEXT_H
#define TEXT_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    MOST_CHARACTERS = 1000,                     /* of a reason or a hint */
    LINE_SIZE = (MOST_CHARACTERS + 2) * 10 + 1, /* a character becomes ten bytes at the most: \U0001f600 */
};

struct line {
    size_t length;
    char text[LINE_SIZE];
};

/* Return the character at *at and move on. A byte that is not UTF-8 becomes a lone surrogate, as in Python. */
uint32_t decode(const uint8_t **at, const uint8_t *end);

bool is_utf8(const uint8_t *text, size_t length);

bool is_printable(uint32_t character);

/* Make a text one printable line, of the first and last 500 characters if it is long. */
void set_line(struct line *line, const void *bytes, size_t length);

/* Do that with what printf(3) would write. */
void format_line(struct line *line, const char *format, va_list values);

/* Return a word as Python's repr() writes it. One at a time: it is overwritten by the next. */
const char *repr(const char *word);

/* Return what glibc, and so Python, says for an error: musl has other words for a few. */
const char *error_text(int number);

#endif
