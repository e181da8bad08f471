/* Texts: whatever untrusted input is in a sentence, it is one printable line.
 *
 * The rule: what is printable ASCII, or valid UTF-8 beyond it, stays; controls, bidirectional and other format controls,
 * line separators and all bytes that are not UTF-8 are written as \\xNN, byte by byte. */

#ifndef TEXT_H
#define TEXT_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    MOST_CHARACTERS = 1000,                     /* of a reason or a hint */
    LINE_SIZE = (MOST_CHARACTERS + 2) * 16 + 1, /* a character has four bytes at the most, an escape too */
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

/* Return a word in single quotes, printable. One at a time: it is overwritten by the next. */
const char *quoted(const char *word);

/* Return the text of glibc, and so of Python, for an error: musl has others for a few. */
const char *error_text(int number);

#endif
