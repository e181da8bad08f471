#include "text.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum { RAW_SIZE = 2 << 20 }; /* a sentence about a word of 128 KiB, each byte of it escaped */

/* C1 controls, soft hyphen, zero width and bidirectional controls, line separators, invisible operators, byte order
 * mark, interlinear annotations, tags. Sources: UnicodeData.txt (Cc, Cf, Zl, Zp); Unicode TR36, section 2. */
static const struct {
    uint32_t first, last;
} ESCAPED[] = {
    {0x80, 0x9f},     {0xad, 0xad},     {0x61c, 0x61c},   {0x180e, 0x180e},   {0x200b, 0x200f},   {0x2028, 0x202e},
    {0x2060, 0x206f}, {0xd800, 0xdfff}, {0xfeff, 0xfeff}, {0xfff9, 0xfffb}, {0xe0000, 0xe0fff},
};

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
    if (character < 0x80)
        return character >= ' ' && character < 0x7f;
    for (size_t i = 0; i < sizeof ESCAPED / sizeof *ESCAPED; i++)
        if (character >= ESCAPED[i].first && character <= ESCAPED[i].last)
            return false;
    return true;
}

/* Write a character as itself or, if it is not printable, each of its bytes escaped; return the size, at most 16. */
static size_t spell(char *into, uint32_t character, const uint8_t *text, size_t length)
{
    static const char digits[] = "0123456789abcdef";
    char *begin = into;
    for (size_t i = 0; i < length; i++) {
        if (is_printable(character)) {
            *into++ = (char)text[i];
            continue;
        }
        *into++ = '\\';
        *into++ = 'x';
        *into++ = digits[text[i] >> 4];
        *into++ = digits[text[i] & 0xf];
    }
    return (size_t)(into - begin);
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

const char *quoted(const char *word)
{
    static char spelled[RAW_SIZE / 2];
    const uint8_t *at = (const uint8_t *)word, *end = at + strlen(word);
    size_t length = 0;
    spelled[length++] = '\'';
    while (at < end && length < sizeof spelled - 20) {
        const uint8_t *text = at;
        uint32_t character = decode(&at, end);
        length += spell(spelled + length, character, text, (size_t)(at - text));
    }
    spelled[length++] = '\'';
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
