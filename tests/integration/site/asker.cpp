// SPDX-License-Identifier: Apache-2.0
// Asks by operator new from a template in a namespace: a name that people read demangled.
#include <cstdio>
#include <vector>

namespace model
{
template <typename T> struct layer {
    std::vector<T> data;
    __attribute__((noinline)) void grow(std::size_t count);
};

template <typename T> void layer<T>::grow(std::size_t count)
{
    data.reserve(count);
    __asm__ volatile("" ::"r"(data.data()) : "memory");
}
}

int main()
{
    model::layer<double> one;

    one.grow(100000);
    std::printf("forward %p\nready\n", static_cast<void *>(one.data.data()));
    std::fflush(stdout);
    return std::getchar() != EOF;
}
