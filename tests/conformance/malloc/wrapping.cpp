// SPDX-License-Identifier: Apache-2.0
// A library to preload, whose operator new and delete call the next ones.
#include <cstddef>
#include <cstdlib>
#include <dlfcn.h>
#include <new>

namespace {

template <typename F> F next(const char *name)
{
    F function = reinterpret_cast<F>(dlsym(RTLD_NEXT, name));

    if (function == nullptr)
        std::abort();
    return function;
}

} // namespace

void *operator new(std::size_t size)
{
    return next<void *(*)(std::size_t)>("_Znwm")(size);
}

void operator delete(void *p) noexcept
{
    next<void (*)(void *)>("_ZdlPv")(p);
}
