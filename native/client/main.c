/* The native client of sidecall, written from PROTOCOL.md, without an interpreter to start: `exec`, `connect`, `ping` and
 * the help are its own, by the tables of the Python command; the other subcommands it hands over to that.
 *
 * One process makes one call, so all storage is static: pages that a call does not need are never touched. */

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "commands.h"
#include "failure.h"
#include "outcome.h"

#ifdef SIDECALL_STANDALONE /* its server starts the same executable as its fork server */
#include "../supervisor/forkserver.h"
#endif

int print_text(const char *text)
{
    if (write_all(STDOUT_FILENO, text, strlen(text)))
        return 0;
    if (errno != EPIPE)
        say(CANNOT_CONTINUE_TEXT, strerror(errno));
    return 1;
}

static bool is_one_of(const char *name, const char *const *names)
{
    while (*names != NULL && strcmp(name, *names) != 0)
        names++;
    return *names != NULL;
}

int main(int argc, char **argv)
{
    static const char *const help[] = {"--help", "-h", "help", NULL}, *const version[] = {"--version", "-V", NULL};
    if (argc > 2 && strcmp(argv[1], "help") == 0) {
        static char option[] = "--help";
        argv[1] = argv[2];
        argv[2] = option;
        argv[argc = 3] = NULL;
    }
    const char *name = argc > 1 ? argv[1] : "";
#ifdef SIDECALL_STANDALONE
    if (argc > 0 && strcmp(argv[0], "sidecall-supervisor") == 0)
        return supervisor_main(argc, argv);
#endif
    if (strcmp(name, "exec") == 0)
        return exec_main(argv);
    if (strcmp(name, "connect") == 0)
        return connect_main(argv);
    if (strcmp(name, "ping") == 0)
        return ping_main(argv);
    if (is_one_of(name, help))
        return print_text(MAIN_HELP);
    if (is_one_of(name, version))
        return print_text("sidecall " SOFTWARE_VERSION "\n");
    if (argc > 0)
        hand_over(argv);
    if (argc > 1)
        fail(EXIT_USAGE, NO_PYTHON_COMMAND_TEXT, quoted(name));
    else
        fail(EXIT_USAGE, SUBCOMMAND_MISSING_TEXT);
    hint("%s", argc > 1 ? NO_PYTHON_COMMAND_HINT : SUBCOMMAND_MISSING_HINT);
    return print_failure();
}
