/* SPDX-License-Identifier: Apache-2.0 */
/*
 * For throw_cost.py: throws exceptions through some frames, in functions that are measured alone.
 *
 * usage: throwing COUNT
 *
 * Blocks beyond the record threshold come first, so that call paths have been read by then, where
 * they are at all.
 */
#include <cstdio>
#include <cstdlib>
#include <link.h>
#include <stdexcept>
#include <string>

extern "C" void throw_some(unsigned count);
extern "C" unsigned visit_modules(unsigned count);

/* What has to be run on the way out. */
struct guard {
    volatile unsigned *count;
    ~guard()
    {
        ++*count;
    }
};

static volatile unsigned unwound;

__attribute__((noinline)) static void descend(unsigned depth)
{
    guard g = {&unwound};

    if (depth == 0)
        throw std::runtime_error("thrown");
    descend(depth - 1);
}

__attribute__((noinline)) void throw_some(unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        try {
            descend(8);
            abort();
        } catch (const std::runtime_error &e) {
            if (std::string("thrown") != e.what())
                abort();
        }
    }
}

static int visit(struct dl_phdr_info *, size_t, void *context)
{
    ++*static_cast<unsigned *>(context);
    return 0;
}

__attribute__((noinline)) unsigned visit_modules(unsigned count)
{
    unsigned visited = 0;

    for (unsigned i = 0; i < count; i++)
        dl_iterate_phdr(visit, &visited);
    return visited;
}

int main(int argc, char **argv)
{
    unsigned count = argc == 2 ? static_cast<unsigned>(strtoul(argv[1], nullptr, 10)) : 0;

    for (int i = 0; i < 100; i++)
        free(malloc(70000 + static_cast<size_t>(i)));
    throw_some(count);
    printf("%u %u\n", static_cast<unsigned>(unwound), visit_modules(count));
    return 0;
}
