#include "text.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "printable.h"

enum { RAW_SIZE = 2 << 20 }; /* a sentence about a word of 128 KiB, each byte of it escaped */

static const size_t RANGES = sizeof NOT_PRINTABLE / sizeof *NOT_PRINTABLE;

/* Return how many bytes a character of UTF-8 has by its first one; 0 if it cannot be a first one. */
static size_t length_by(uint8_t first)
{
    if (first < 0xc0 || first >= 0xf8)
        return 0;
    return first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
}

static bool is_surrogate(uint32_t character)
{
    return character >= 0xd800 && character < 0xe000;
}

uint32_t decode(const uint8_t **at, const uint8_t *end)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    const uint8_t *text = *at;
    uint32_t first = *text, alone = 0xdc00U | first;
    *at = text + 1;
    if (first < 0x80)
        return first;
    size_t length = length_by(*text);
    if (length == 0 || (size_t)(end - text) < length)
        return alone;
    uint32_t character = first & (0xffU >> (length + 1));
    for (size_t i = 1; i < length; i++) {
        if ((text[i] & 0xc0) != 0x80)
            return alone;
        character = character << 6 | (text[i] & 0x3fU);
    }
    if (character < least[length] || character > 0x10ffff || is_surrogate(character))
        return alone;
    *at = text + length;
    return character;
}

bool is_utf8(const uint8_t *text, size_t length)
{
    const uint8_t *end = text + length;
    while (text < end)
        if (is_surrogate(decode(&text, end)))
            return false;
    return true;
}

bool is_printable(uint32_t character)
{
    size_t low = 0, high = RANGES;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (character > NOT_PRINTABLE[middle].last)
            low = middle + 1;
        else
            high = middle;
    }
    return low == RANGES || character < NOT_PRINTABLE[low].first;
}

/* Write a character as itself, or escaped as Python does if it is not printable; return its bytes, at most 10. */
static size_t spell(char *into, uint32_t character, const uint8_t *text, size_t length)
{
    if (is_printable(character)) {
        memcpy(into, text, length);
        return length;
    }
    const char *short_form = character == '\n' ? "\\n" : character == '\r' ? "\\r" : character == '\t' ? "\\t" : NULL;
    if (short_form != NULL) {
        memcpy(into, short_form, 2);
        return 2;
    }
    const char *format = character < 0x100 ? "\\x%02x" : character < 0x10000 ? "\\u%04x" : "\\U%08x";
    char escaped[16];
    int size = snprintf(escaped, sizeof escaped, format, (unsigned)character);
    memcpy(into, escaped, (size_t)size);
    return (size_t)size;
}

void set_line(struct line *line, const void *bytes, size_t length)
{
    const uint8_t *begin = bytes, *end = begin + length;
    size_t characters = 0, index = 0;
    for (const uint8_t *at = begin; at < end; characters++)
        decode(&at, end);
    line->length = 0;
    for (const uint8_t *at = begin; at < end; index++) {
        const uint8_t *text = at;
        uint32_t character = decode(&at, end);
        if (characters <= MOST_CHARACTERS || index < MOST_CHARACTERS / 2 || index >= characters - MOST_CHARACTERS / 2)
            line->length += spell(line->text + line->length, character, text, (size_t)(at - text));
        else if (index == MOST_CHARACTERS / 2)
            line->length += spell(line->text + line->length, 0x2026, (const uint8_t *)"\u2026", 3);
    }
    line->text[line->length] = '\0';
}

void format_line(struct line *line, const char *format, va_list values)
{
    static char raw[RAW_SIZE];
    int length = vsnprintf(raw, sizeof raw, format, values);
    set_line(line, raw, length < 0 ? 0 : (size_t)length < sizeof raw ? (size_t)length : sizeof raw - 1);
}

const char *repr(const char *word)
{
    static char spelled[RAW_SIZE / 2];
    const uint8_t *at = (const uint8_t *)word, *end = at + strlen(word);
    char quote = strchr(word, '\'') != NULL && strchr(word, '"') == NULL ? '"' : '\'';
    size_t length = 0;
    spelled[length++] = quote;
    while (at < end && length < sizeof spelled - 16) {
        const uint8_t *text = at;
        uint32_t character = decode(&at, end);
        if (character == (uint32_t)quote || character == '\\')
            spelled[length++] = '\\';
        length += spell(spelled + length, character, text, (size_t)(at - text));
    }
    spelled[length++] = quote;
    spelled[length] = '\0';
    return spelled;
}

const char *error_text(int number)
{
    switch (number) {
    case EIO: return "Input/output error";
    case ENOMEM: return "Cannot allocate memory";
    case EBUSY: return "Device or resource busy";
    case EMFILE: return "Too many open files";
    case ENAMETOOLONG: return "File name too long";
    case ELOOP: return "Too many levels of symbolic links";
    case ELIBBAD: return "Accessing a corrupted shared library";
    case EOPNOTSUPP: return "Operation not supported";
    case ETIMEDOUT: return "Connection timed out";
    case EUCLEAN: return "Structure needs cleaning";
    case EDQUOT: return "Disk quota exceeded";
    default: return strerror(number);
    }
}
