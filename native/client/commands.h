/* The subcommands. Each gets the arguments of the whole process, and returns the code to exit with, if it returns. */

#ifndef COMMANDS_H
#define COMMANDS_H

int exec_main(char **argv);

int connect_main(char **argv);

int ping_main(char **argv);

/* Print a text to stdout; return the code to exit with. */
int print_text(const char *text);

/* Become the Python command with the same arguments. Returns only if it is not found. */
void hand_over(char **argv);

#endif
