/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: the public header serves C++, and a tag reaches what operator new allocates. Method: as
 * program.c; the tag is kept by an object whose destructor pops it.
 */
#include "alloc/berth.h"

#include <cstdio>
#include <cstring>
#include <memory>
#include <vector>

namespace
{
struct tagged {
    explicit tagged(berth_tag tag)
    {
        berth_tag_push(tag);
    }
    ~tagged()
    {
        berth_tag_pop();
    }
    tagged(const tagged &) = delete;
    tagged &operator=(const tagged &) = delete;
};

int tag_of(const void *p)
{
    berth_block_info info;

    return berth_describe(p, &info, sizeof info) == 0 ? static_cast<int>(info.tag) : -1;
}
} // namespace

int main(int argc, char **argv)
{
    bool present = argc == 2 && std::strcmp(argv[1], "present") == 0;
    std::unique_ptr<std::vector<double>> weights, plain;

    {
        tagged scope(BERTH_TAG_WEIGHT);

        weights = std::make_unique<std::vector<double>>(1u << 18);
    }
    plain = std::make_unique<std::vector<double>>(1u << 18);
    if (berth_active() != (present ? 1 : 0))
        return 1;
    if (tag_of(weights->data()) != (present ? BERTH_TAG_WEIGHT : -1))
        return 2;
    return tag_of(plain->data()) == (present ? BERTH_TAG_UNTAGGED : -1) ? 0 : 3;
}
