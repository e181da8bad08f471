#ifndef KEEPER_MAIN_H
#define KEEPER_MAIN_H

int keeper_main(int argc, char **argv);

#endif
