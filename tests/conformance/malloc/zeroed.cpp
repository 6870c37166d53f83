// SPDX-License-Identifier: Apache-2.0
// A program that is linked to a library whose operator new (ARRAYS: new[]) gives zeroed blocks.
#include <cstddef>
#include <cstring>
#include <initializer_list>
#include <new>

namespace {

template <typename F> int count_dirty(F get, std::size_t size)
{
    int dirty = 0;

    for (int i = 0; i < 50; i++) {
        char *p = static_cast<char *>(get(size));

        for (std::size_t at = 0; at < size; at++)
            dirty += p[at] != 0;
        std::memset(p, 0xa5, size);
        ::operator delete(p);
    }
    return dirty;
}

} // namespace

int main()
{
    int dirty = 0;

    for (std::size_t size : {std::size_t{1}, std::size_t{24}, std::size_t{3000}, std::size_t{100000}}) {
        dirty += count_dirty([](std::size_t n) { return ::operator new[](n); }, size);
        dirty += count_dirty([](std::size_t n) { return ::operator new[](n, std::nothrow); }, size);
#ifndef ARRAYS
        dirty += count_dirty([](std::size_t n) { return ::operator new(n); }, size);
        dirty += count_dirty([](std::size_t n) { return ::operator new(n, std::nothrow); }, size);
#endif
    }
    return dirty != 0;
}
