/* The subcommands. Each gets the words of the whole process, and returns the code to exit with, if it returns. */

#ifndef COMMANDS_H
#define COMMANDS_H

int exec_main(char **argv);

int connect_main(char **argv);

/* Become the Python command with the same words. Returns only if there is none. */
void hand_over(char **argv);

/* Say that there is no Python command, which would be needed; return the code to exit with. */
int no_python_command(void);

#endif
