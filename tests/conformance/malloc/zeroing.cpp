// SPDX-License-Identifier: Apache-2.0
// A library that replaces operator new alone (ARRAYS: new[] alone), whose blocks are zeroed; operator
// delete is free(), as the C++ library has it.
#include <cstdlib>
#include <new>

#ifdef ARRAYS
void *operator new[](std::size_t size)
#else
void *operator new(std::size_t size)
#endif
{
    void *p = std::calloc(size, 1);

    if (p == nullptr)
        throw std::bad_alloc();
    return p;
}
