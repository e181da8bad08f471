#include "forkserver.h"

#ifndef SIDECALL_STANDALONE /* there native/client/main.c calls it */

int main(int argc, char **argv)
{
    return supervisor_main(argc, argv);
}

#endif
