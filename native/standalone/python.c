/* The rest of the standalone executable: the Python command, within. native/client has its main(), which makes
 * calls; what it hands over runs here, in the same process, on a CPython that is linked in statically.
 *
 * Nothing of the machine's takes part: no variable, no file, no folder is looked for. All modules are frozen into the
 * executable (freeze.py); what they need of libc without a loader is the module _sidecall.
 */

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <malloc.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "frozen.h" /* made by freeze.py: FROZEN_MODULES, and frozen.bin beside it */

void hand_over(char **argv);

/* ---- _sidecall: what src/sidecall/_kernel.py otherwise does through ctypes ---- */

static PyObject *call_prctl(PyObject *self, PyObject *arguments)
{
    int option;
    PyObject *value;
    unsigned long argument;
    (void)self;
    if (!PyArg_ParseTuple(arguments, "iO", &option, &value))
        return NULL;
    if (PyBytes_Check(value))
        argument = (uintptr_t)PyBytes_AS_STRING(value);
    else if ((argument = PyLong_AsUnsignedLong(value)) == (unsigned long)-1 && PyErr_Occurred())
        return NULL;
    if (prctl(option, argument, 0UL, 0UL, 0UL) != 0)
        return PyErr_SetFromErrno(PyExc_OSError);
    Py_RETURN_NONE;
}

static PyObject *call_openat2(PyObject *self, PyObject *arguments)
{
    struct {
        unsigned long long flags, mode, resolve;
    } how = {0, 0, 0};
    int root;
    PyObject *path;
    (void)self;
    if (!PyArg_ParseTuple(arguments, "iSKK", &root, &path, &how.flags, &how.resolve))
        return NULL;
    long fd = syscall(SYS_openat2, root, PyBytes_AS_STRING(path), &how, sizeof how);
    return fd < 0 ? PyErr_SetFromErrnoWithFilenameObject(PyExc_OSError, path) : PyLong_FromLong(fd);
}

static PyObject *call_getsockopt(PyObject *self, PyObject *arguments)
{
    int fd, level, option, size;
    (void)self;
    if (!PyArg_ParseTuple(arguments, "iiii", &fd, &level, &option, &size))
        return NULL;
    PyObject *value = PyBytes_FromStringAndSize(NULL, size);
    if (value == NULL)
        return NULL;
    socklen_t length = (socklen_t)size;
    if (getsockopt(fd, level, option, PyBytes_AS_STRING(value), &length) != 0) {
        Py_DECREF(value);
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    _PyBytes_Resize(&value, (Py_ssize_t)length);
    return value;
}

static PyObject *call_landlock_version(PyObject *self, PyObject *arguments)
{
    (void)self;
    (void)arguments;
    return PyLong_FromLong(syscall(444 /* landlock_create_ruleset */, NULL, 0UL, 1U));
}

static PyMethodDef functions[] = {
    {"getsockopt", call_getsockopt, METH_VARARGS, NULL},
    {"landlock_version", call_landlock_version, METH_NOARGS, NULL},
    {"prctl", call_prctl, METH_VARARGS, NULL},
    {"openat2", call_openat2, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef module = {PyModuleDef_HEAD_INIT, .m_name = "_sidecall", .m_size = 0, .m_methods = functions};

static PyObject *make_module(void)
{
    return PyModule_Create(&module);
}

/* ---- Memory ----
 *
 * musl maps pages for a block of more than a few KiB and unmaps them when it is freed. A relayed stream has several such
 * blocks for each piece, so a few are kept for the next one: it is twice as fast. glibc does so by itself.
 */

enum { SMALLEST_KEPT = 4 << 10, LARGEST_KEPT = 256 << 10, MOST_KEPT = 16 };

static PyMemAllocatorEx libc;
static void *kept[MOST_KEPT];
static size_t next_place;
static atomic_flag kept_busy = ATOMIC_FLAG_INIT; /* nobody waits for another thread: libc can always do without */

static bool is_kept_size(size_t size)
{
    return size >= SMALLEST_KEPT && size <= LARGEST_KEPT;
}

/* Take a block of at most twice the size out of those that are kept; NULL if there is none. */
static void *take(size_t size)
{
    void *block = NULL;
    if (!is_kept_size(size) || atomic_flag_test_and_set(&kept_busy))
        return NULL;
    for (int i = 0; i < MOST_KEPT && block == NULL; i++) {
        size_t room = malloc_usable_size(kept[i]);
        if (size <= room && room / 2 <= size) {
            block = kept[i];
            kept[i] = NULL;
        }
    }
    atomic_flag_clear(&kept_busy);
    return block;
}

/* Keep a block in the place of the oldest, and return that one; or the block itself, if it is not to be kept. */
static void *keep(void *block)
{
    if (!is_kept_size(malloc_usable_size(block)) || atomic_flag_test_and_set(&kept_busy))
        return block;
    void *oldest = kept[next_place];
    kept[next_place] = block;
    next_place = (next_place + 1) % MOST_KEPT;
    atomic_flag_clear(&kept_busy);
    return oldest;
}

static void *allocate(void *context, size_t size)
{
    void *block = take(size);
    return block != NULL ? block : libc.malloc(context, size);
}

static void release(void *context, void *block)
{
    libc.free(context, keep(block));
}

static void *resize(void *context, void *block, size_t size)
{
    size_t room = malloc_usable_size(block);
    if (!is_kept_size(room))
        return libc.realloc(context, block, size);
    if (size <= room && room / 2 <= size)
        return block;
    void *other = allocate(context, size);
    if (other != NULL) {
        memcpy(other, block, size < room ? size : room);
        release(context, block);
    }
    return other;
}

static void keep_blocks(void)
{
    PyMemAllocatorEx keeping;
    PyMem_GetAllocator(PYMEM_DOMAIN_RAW, &libc);
    keeping = libc;
    keeping.malloc = allocate;
    keeping.realloc = resize;
    keeping.free = release;
    PyMem_SetAllocator(PYMEM_DOMAIN_RAW, &keeping);
}

/* ---- Python ---- */

__asm__(".section .rodata\n"
        ".globl frozen_code\n"
        "frozen_code: .incbin \"frozen.bin\"\n"
        ".previous\n");
extern const unsigned char frozen_code[];

#define MODULE(NAME, START, SIZE, IS_PACKAGE) {.name = NAME, .code = frozen_code + (START), .size = SIZE, .is_package = IS_PACKAGE},
static const struct _frozen modules[] = {FROZEN_MODULES(MODULE){.name = NULL}};

static void check(PyStatus status)
{
    if (PyStatus_Exception(status))
        Py_ExitStatusException(status);
}

/* Start Python as an embedded, isolated one: PYTHON* variables, site-packages and the locale mean nothing to it. */
static void start_python(char **argv)
{
    PyPreConfig before;
    PyConfig config;
    Py_ssize_t count = 0;
    while (argv[count] != NULL)
        count++;
    PyPreConfig_InitIsolatedConfig(&before);
    before.utf8_mode = 1;
    check(Py_PreInitialize(&before));
    keep_blocks();
    PyConfig_InitIsolatedConfig(&config);
    config.install_signal_handlers = 1;
    config.site_import = 0;
    config.write_bytecode = 0;
    config.module_search_paths_set = 1; /* to nothing */
    config.parse_argv = 0;
    check(PyConfig_SetString(&config, &config.executable, L"/proc/self/exe"));
    check(PyConfig_SetString(&config, &config.home, L"/proc/self/exe")); /* where nothing can be: or it would search */
    check(PyConfig_SetBytesArgv(&config, count, argv));
    check(Py_InitializeFromConfig(&config));
    PyConfig_Clear(&config);
}

/* Run the Python command with these words; never returns. */
void hand_over(char **argv)
{
    PyImport_FrozenModules = modules;
    PyImport_AppendInittab("_sidecall", make_module);
    start_python(argv);
    int code = 0;
    if (PyImport_ImportFrozenModule("__main__") < 0) {
        PyErr_Print(); /* exits, if it is the command's SystemExit */
        code = 1;
    }
    exit(Py_FinalizeEx() < 0 ? 120 : code);
}
