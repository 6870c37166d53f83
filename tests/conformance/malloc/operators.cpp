// SPDX-License-Identifier: Apache-2.0
// Four of C++'s operators, of a program or of a library that it is linked to, with a header before
// each block: what the other forms give, and take back, must come from these.
#include "operators.h"

#include <cstdint>
#include <cstdlib>
#include <new>

namespace {

const std::uint64_t MARK = 0x6d61726b6d61726b;
const std::size_t HEADER = 256; // as large as the largest alignment
int given, taken, strange;

void *give(std::size_t size)
{
    if (size > MOST)
        throw std::bad_alloc();
    char *block = static_cast<char *>(std::aligned_alloc(HEADER, HEADER + size));

    if (block == nullptr)
        throw std::bad_alloc();
    *reinterpret_cast<std::uint64_t *>(block) = MARK;
    given++;
    return block + HEADER;
}

void take(void *p)
{
    char *block = static_cast<char *>(p) - HEADER;

    if (p == nullptr)
        return;
    if (*reinterpret_cast<std::uint64_t *>(block) != MARK) {
        strange++;
        return;
    }
    *reinterpret_cast<std::uint64_t *>(block) = 0;
    taken++;
    std::free(block);
}

} // namespace

void forget()
{
    given = taken = strange = 0;
}

bool are_at_least(int count)
{
    return given >= count && taken == given && strange == 0;
}

bool are(int count)
{
    bool right = given == count && are_at_least(count);

    forget();
    return right;
}

void *operator new(std::size_t size)
{
    return give(size);
}

void operator delete(void *p) noexcept
{
    take(p);
}

void *operator new(std::size_t size, std::align_val_t)
{
    return give(size);
}

void operator delete(void *p, std::align_val_t) noexcept
{
    take(p);
}
