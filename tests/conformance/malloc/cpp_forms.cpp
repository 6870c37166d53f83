// SPDX-License-Identifier: Apache-2.0
// Every form of operator new and delete; built as a library for a C program, and as a program.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <memory>
#include <new>
#include <string>
#include <thread>
#include <vector>

namespace {

volatile std::size_t huge = static_cast<std::size_t>(PTRDIFF_MAX) - 4096;
int handler_calls;

void handler()
{
    if (++handler_calls == 3)
        std::set_new_handler(nullptr);
}

struct alignas(256) Wide {
    char bytes[1024];
};

bool aligned(const void *p, std::size_t alignment)
{
    return (reinterpret_cast<std::uintptr_t>(p) & (alignment - 1)) == 0;
}

template <typename F> bool throws_bad_alloc(F f)
{
    try {
        f();
    } catch (const std::bad_alloc &) {
        return true;
    }
    return false;
}

int failures()
{
    const std::align_val_t wide{128};
    int failed = 0;

    failed += !throws_bad_alloc([] { ::operator delete(::operator new(huge)); });
    failed += !throws_bad_alloc([] { ::operator delete[](::operator new[](huge)); });
    failed += !throws_bad_alloc([&] { ::operator delete(::operator new(huge, wide), wide); });
    failed += !throws_bad_alloc([&] { ::operator delete[](::operator new[](huge, wide), wide); });
    failed += ::operator new(huge, std::nothrow) != nullptr;
    failed += ::operator new[](huge, std::nothrow) != nullptr;
    failed += ::operator new(huge, wide, std::nothrow) != nullptr;
    failed += ::operator new[](huge, wide, std::nothrow) != nullptr;
    std::set_new_handler(handler);
    failed += !throws_bad_alloc([] { ::operator delete(::operator new(huge)); });
    failed += handler_calls != 3;
    return failed;
}

// What is no power of two is refused, and no new_handler is asked.
int alignments()
{
    const auto get = [](std::align_val_t wrong) {
        return throws_bad_alloc([=] { ::operator delete(::operator new(500, wrong), wrong); });
    };
    const int called = handler_calls;
    int failed = 0;

    for (std::size_t number : {0, 3, 24, 4095}) {
        const auto wrong = static_cast<std::align_val_t>(number);

        failed += !get(wrong);
        failed += ::operator new(500, wrong, std::nothrow) != nullptr;
        failed += ::operator new[](70000, wrong, std::nothrow) != nullptr;
    }
    return failed + (handler_calls != called);
}

int sizes(std::size_t size)
{
    const std::align_val_t wide{512};
    int failed = 0;
    void *p;

    p = ::operator new(size);
    failed += p == nullptr;
    ::operator delete(p);
    p = ::operator new(size);
    ::operator delete(p, size);
    p = ::operator new[](size);
    failed += p == nullptr;
    ::operator delete[](p);
    p = ::operator new[](size);
    ::operator delete[](p, size);
    p = ::operator new(size, std::nothrow);
    failed += p == nullptr;
    ::operator delete(p, std::nothrow);
    p = ::operator new[](size, std::nothrow);
    failed += p == nullptr;
    ::operator delete[](p, std::nothrow);
    p = ::operator new(size, wide);
    failed += p == nullptr || !aligned(p, 512);
    ::operator delete(p, wide);
    p = ::operator new(size, wide);
    ::operator delete(p, size, wide);
    p = ::operator new[](size, wide);
    failed += p == nullptr || !aligned(p, 512);
    ::operator delete[](p, wide);
    p = ::operator new[](size, wide);
    ::operator delete[](p, size, wide);
    p = ::operator new(size, wide, std::nothrow);
    failed += p == nullptr || !aligned(p, 512);
    ::operator delete(p, wide, std::nothrow);
    p = ::operator new[](size, wide, std::nothrow);
    failed += p == nullptr || !aligned(p, 512);
    ::operator delete[](p, wide, std::nothrow);
    return failed;
}

int containers()
{
    std::map<int, std::string> names;
    std::vector<std::unique_ptr<Wide>> wide;
    std::size_t total = 0;

    for (int i = 0; i < 5000; i++) {
        names[i] = std::string(static_cast<std::size_t>(i % 300), 'x');
        wide.push_back(std::make_unique<Wide>());
        if (!aligned(wide.back().get(), 256))
            return 1;
    }
    std::thread([&] { names.erase(names.begin(), names.find(2500)); }).join();
    for (auto &name : names)
        total += name.second.size();
    return names.size() != 2500 || total == 0;
}

} // namespace

extern "C" void *cpp_get(std::size_t size)
{
    return ::operator new(size);
}

extern "C" void cpp_put(void *p)
{
    ::operator delete(p);
}

extern "C" int cpp_all_forms()
{
    int failed = failures() + alignments();

    for (std::size_t size : {std::size_t{0}, std::size_t{1}, std::size_t{100}, std::size_t{5000},
                             std::size_t{70000}, std::size_t{1} << 20})
        failed += sizes(size);
    return failed + containers();
}

#ifdef PROGRAM
int main()
{
    return cpp_all_forms();
}
#endif
