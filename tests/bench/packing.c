/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How near to max-live the solver of plans comes on packing problems from files.
 *
 *     packing [-e EFFORT] [-t SECONDS] [-s SEED] FILE.csv|FOLDER...
 *
 * A file has the columns id,lower,upper,size of minimalloc's benchmarks; all *.csv of a folder are
 * taken. Prints a line for each, and ends with 1 when a packing is wrong, or more than 5 % above
 * max-live. Without files it exits with 77.
 */
#include "tools/plan/packing.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define RATIO_MAX 1.05

static struct berth_packing_limits limits = {
    .effort = UINT64_C(10000000000), .seconds = 600, .seed = 1};
static bool is_bad;

static void fail(const char *path, const char *why)
{
    fprintf(stderr, "packing: %s: %s\n", path, why);
    exit(1);
}

static struct berth_packing_buffer *read_buffers(const char *path, size_t *ret_count)
{
    FILE *file = fopen(path, "re");
    struct berth_packing_buffer *buffers = NULL;
    size_t count = 0, room = 0;
    char line[256];

    if (!file)
        fail(path, "cannot be opened");
    while (fgets(line, sizeof(line), file)) {
        unsigned lower, upper;
        unsigned long long size;

        if (sscanf(line, "%*[^,],%u,%u,%llu", &lower, &upper, &size) != 3) {
            if (strncmp(line, "id,", 3) == 0)
                continue;
            fail(path, "a line is not id,lower,upper,size");
        }
        if (count == room) {
            room = room ? 2 * room : 1024;
            buffers = realloc(buffers, room * sizeof(*buffers));
            if (!buffers)
                fail(path, "out of memory");
        }
        buffers[count++] = (struct berth_packing_buffer){lower, upper, size};
    }
    fclose(file);
    *ret_count = count;
    return buffers;
}

static double seconds_since(const struct timespec *start)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)(now.tv_sec - start->tv_sec) + (double)(now.tv_nsec - start->tv_nsec) * 1e-9;
}

static void pack_file(const char *path)
{
    const char *slash = strrchr(path, '/');
    struct berth_packing_result result;
    struct timespec start;
    size_t count, pair[2];
    struct berth_packing_buffer *buffers = read_buffers(path, &count);
    uint64_t *offsets = calloc(count + 1, sizeof(*offsets));
    uint64_t peak = 0;
    double ratio;
    int r;

    clock_gettime(CLOCK_MONOTONIC, &start);
    r = offsets ? berth__packing_solve(buffers, count, &limits, offsets, &result) : -1;
    if (r < 0)
        fail(path, strerror(-r));
    ratio = result.max_live ? (double)result.peak / (double)result.max_live : 1;
    if (berth__packing_check(buffers, count, offsets, &peak, pair) < 0 || peak != result.peak)
        fail(path, "the packing is wrong");
    printf("%-28s %8zu %14llu %14llu %8.4f %8.2f  %s%s\n", slash ? slash + 1 : path, count,
           (unsigned long long)result.max_live, (unsigned long long)result.peak, ratio,
           seconds_since(&start), result.method, ratio > RATIO_MAX ? "  (more than 5 %)" : "");
    fflush(stdout);
    is_bad = is_bad || ratio > RATIO_MAX;
    free(buffers);
    free(offsets);
}

static int is_csv(const struct dirent *entry)
{
    size_t length = strlen(entry->d_name);

    return length > 4 && strcmp(entry->d_name + length - 4, ".csv") == 0;
}

static void pack(const char *path)
{
    struct dirent **entries;
    struct stat status;
    int count;

    if (stat(path, &status) < 0)
        fail(path, "is not there");
    if (!S_ISDIR(status.st_mode)) {
        pack_file(path);
        return;
    }
    count = scandir(path, &entries, is_csv, alphasort);
    for (int i = 0; i < count; i++) {
        char *name;

        if (asprintf(&name, "%s/%s", path, entries[i]->d_name) < 0)
            fail(path, "out of memory");
        pack_file(name);
        free(name);
        free(entries[i]);
    }
    if (count >= 0)
        free(entries);
}

int main(int argc, char **argv)
{
    int option;

    while ((option = getopt(argc, argv, "e:t:s:")) != -1) {
        if (option == 'e')
            limits.effort = (uint64_t)(atof(optarg) * 1e9);
        else if (option == 't')
            limits.seconds = atof(optarg);
        else if (option == 's')
            limits.seed = strtoull(optarg, NULL, 10);
        else
            return 2;
    }
    if (optind == argc) {
        fprintf(stderr, "packing: no problems were given; expected files or folders of "
                        "id,lower,upper,size (meson: -Dpacking_problems=...)\n");
        return 77;
    }
    printf("%-28s %8s %14s %14s %8s %8s  %s\n", "problem", "buffers", "max-live", "peak", "ratio",
           "seconds", "by");
    for (int i = optind; i < argc; i++)
        pack(argv[i]);
    return is_bad;
}
