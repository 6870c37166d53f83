/* SPDX-License-Identifier: Apache-2.0 */
/*
 * All questions, or one: questions [question_07]. Each runs in a process of its own, natively;
 * tests/gpu/run shows where a GPU answers differently from the simulated driver.
 */
#include "question.h"

#include <string.h>
#include <time.h>

static struct timespec start;

static void sleep_ms(void *user)
{
    int ms = (int)(uintptr_t)user;
    struct timespec time = {ms / 1000, ms % 1000 * 1000000L};

    nanosleep(&time, NULL);
}

void question_delay(CUstream stream, int ms)
{
    EXPECT(cuLaunchHostFunc(stream, sleep_ms, (void *)(uintptr_t)ms) == 0);
}

void question_start_clock(void)
{
    clock_gettime(CLOCK_MONOTONIC, &start);
}

bool question_waited(int ms)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (now.tv_sec - start.tv_sec) * 1000 + (now.tv_nsec - start.tv_nsec) / 1000000 >=
           ms * 3 / 4;
}

static const struct check checks[] = {
#define X(name) CHECK(name),
    QUESTIONS(X)
#undef X
};

int main(int argc, char **argv)
{
    if (argc == 4 && strcmp(argv[1], "--peer") == 0)
        return question_peer(argv[2]);
    return checks_run(checks, COUNT(checks), argc, argv);
}
