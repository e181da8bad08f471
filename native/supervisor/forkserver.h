#ifndef FORKSERVER_H
#define FORKSERVER_H

int supervisor_main(int argc, char **argv);

#endif
