/* Linked into programs whose coverage is measured: what was counted is saved also where a process ends without exit(3). */

#include <signal.h>
#include <sys/types.h>
#include <unistd.h>

/* What the linker's --wrap names has reserved names. */
extern void __gcov_dump(void);
extern void __gcov_reset(void);
extern _Noreturn void __real__exit(int code);
extern int __real_kill(pid_t pid, int number);
extern int __real_execv(const char *path, char *const argv[]);
extern int __real_execve(const char *path, char *const argv[], char *const variables[]);

static void save(void)
{
    __gcov_dump();
    __gcov_reset();
}

_Noreturn void __wrap__exit(int code)
{
    save();
    __real__exit(code);
}

int __wrap_kill(pid_t pid, int number)
{
    if (pid == getpid())
        save();
    return __real_kill(pid, number);
}

int __wrap_execv(const char *path, char *const argv[])
{
    save();
    return __real_execv(path, argv);
}

int __wrap_execve(const char *path, char *const argv[], char *const variables[])
{
    save();
    return __real_execve(path, argv, variables);
}
