"""Write printable.h: the characters that Python does not take for printable, as ranges. Run it to change Unicode."""

import sys
import unicodedata


def main() -> None:
    """Write the header to stdout."""
    ranges: list[list[int]] = []
    for number in range(sys.maxunicode + 1):
        if not chr(number).isprintable():
            if ranges and ranges[-1][1] == number - 1:
                ranges[-1][1] = number
            else:
                ranges.append([number, number])
    version = unicodedata.unidata_version
    print(f"/* What Python does not print as it is, from Unicode {version}. Made by printable.py. */\n")
    print("static const struct {\n    uint32_t first, last;\n} NOT_PRINTABLE[] = {")
    pairs = [f"{{0x{first:x}, 0x{last:x}}}," for first, last in ranges]
    for begin in range(0, len(pairs), 5):
        print("    " + " ".join(pairs[begin : begin + 5]))
    print("};")


if __name__ == "__main__":
    main()
