// One array, two programs.
//
//     array run PROGRAM ARGUMENTS…     puts 1, 2, 3, 4 (float64) into the session, starts a program with a reference to
//                                      them as its last argument, and prints what they are when it has ended
//     array add REFERENCE              adds 10 to each, under the array's lock, and prints them
//
// In Python the reference is `nds.ref(text).open()`, and `str(nds.ref(array))` makes one.

#define _POSIX_C_SOURCE 200809L

#include "check.h"

#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static void show(const nds_array_info *it)
{
    for (size_t i = 0; i < it->size; i++)
        printf("%g%s", *(double *)((char *)it->data + (ptrdiff_t)i * it->strides[0]), i + 1 < it->size ? " " : "\n");
    fflush(stdout);
}

static int run(int count, char **arguments)
{
    const size_t shape[] = {4};
    nds_array *array;
    nds_array_info info;
    check(nds_array_make("float64", 1, shape, &array));
    check(nds_array_get_info(array, &info));
    for (size_t i = 0; i < info.size; i++)
        ((double *)info.data)[i] = (double)(i + 1);

    setenv("NDSHARE_SESSION", nds_session_locators(), 1);
    char **command = (char **)calloc((size_t)count + 2, sizeof *command);
    memcpy(command, arguments, (size_t)count * sizeof *command);
    command[count] = strdup(nds_array_reference(array));
    const pid_t child = fork();
    if (child == 0) {
        execvp(command[0], command);
        _exit(127);
    }
    int status = -1;
    waitpid(child, &status, 0);
    show(&info);
    check(nds_array_free(array));
    free(command[count]);
    free(command);
    return WIFEXITED(status) ? WEXITSTATUS(status) : EXIT_FAILURE;
}

static int add(const char *reference)
{
    nds_array *array;
    nds_array_info info;
    nds_lock *lock;
    check(nds_array_open(reference, -1, &array));
    check(nds_array_get_info(array, &info));
    if (strcmp(info.dtype, "<f8") != 0 || info.ndim != 1 || info.readonly) {
        fprintf(stderr, "expected a writable row of float64, got %zu axes of %s\n", info.ndim, info.dtype);
        return EXIT_FAILURE;
    }
    check(nds_arrays_lock(&array, 1, false, -1, &lock));
    for (size_t i = 0; i < info.size; i++)
        *(double *)((char *)info.data + (ptrdiff_t)i * info.strides[0]) += 10;
    check(nds_unlock(lock, true));
    show(&info);
    check(nds_array_free(array));
    return EXIT_SUCCESS;
}

int main(int argc, char **argv)
{
    if (argc >= 3 && strcmp(argv[1], "run") == 0)
        return run(argc - 2, argv + 2);
    if (argc == 3 && strcmp(argv[1], "add") == 0)
        return add(argv[2]);
    fprintf(stderr, "expected: run PROGRAM ARGUMENTS…, or add REFERENCE\n");
    return EXIT_FAILURE;
}
