/* SPDX-License-Identifier: Apache-2.0 */
#include "check.h"

#include <string.h>
#include <sys/wait.h>

#define CHECK_SECONDS_MAX 60

CUcontext check_context;

void check_up(void)
{
    EXPECT(cuInit(0) == 0);
    EXPECT(cuDevicePrimaryCtxRetain(&check_context, 0) == 0);
    EXPECT(cuCtxSetCurrent(check_context) == 0);
}

CUdeviceptr check_alloc(size_t size)
{
    CUdeviceptr p = 0;

    EXPECT(cuMemAlloc_v2(&p, size) == 0);
    EXPECT(p != 0 && p % 512 == 0);
    return p;
}

int checks_run(const struct check *checks, size_t count, int argc, char **argv)
{
    int failed = 0;

    for (size_t i = 0; i < count; i++) {
        int status = 0;
        pid_t pid;

        if (argc > 1 && strcmp(argv[1], checks[i].name) != 0)
            continue;
        printf("%s\n", checks[i].name);
        fflush(stdout);
        pid = fork();
        if (pid == 0) {
            alarm(CHECK_SECONDS_MAX);
            checks[i].run();
            fflush(stdout);
            _exit(0);
        }
        waitpid(pid, &status, 0);
        if (status != 0) {
            printf("  FAIL status %#x\n", (unsigned)status);
            failed++;
        }
    }
    return failed != 0;
}
