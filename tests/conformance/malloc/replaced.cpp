// SPDX-License-Identifier: Apache-2.0
// A program four of whose C++ operators are its own, or a library's: what the other forms give, and
// take back, must come from these, as C++ has it.
#include "operators.h"

#include <algorithm>
#include <cstdint>
#include <functional>
#include <memory>
#include <new>
#include <string>
#include <vector>

namespace {

struct alignas(128) Wide {
    char bytes[500];
};

struct Part {
    int number;
    char bytes[96];
};

bool operator<(const Part &a, const Part &b)
{
    return a.number < b.number;
}

template <typename F> bool refuses(F f)
{
    try {
        return f() == nullptr;
    } catch (const std::bad_alloc &) {
        return true;
    }
}

int plain(std::size_t size)
{
    int failed = 0;

    ::operator delete(::operator new(size), size);
    failed += !are(1);
    ::operator delete[](::operator new[](size));
    failed += !are(1);
    ::operator delete[](::operator new[](size), size);
    failed += !are(1);
    ::operator delete(::operator new(size, std::nothrow));
    failed += !are(1);
    ::operator delete(::operator new(size, std::nothrow), std::nothrow);
    failed += !are(1);
    ::operator delete[](::operator new[](size, std::nothrow));
    failed += !are(1);
    ::operator delete[](::operator new[](size, std::nothrow), std::nothrow);
    failed += !are(1);
    return failed;
}

int aligned(std::size_t size)
{
    const std::align_val_t wide{128};
    int failed = 0;

    ::operator delete(::operator new(size, wide), size, wide);
    failed += !are(1);
    ::operator delete[](::operator new[](size, wide), wide);
    failed += !are(1);
    ::operator delete[](::operator new[](size, wide), size, wide);
    failed += !are(1);
    ::operator delete(::operator new(size, wide, std::nothrow), wide);
    failed += !are(1);
    ::operator delete(::operator new(size, wide, std::nothrow), wide, std::nothrow);
    failed += !are(1);
    ::operator delete[](::operator new[](size, wide, std::nothrow), wide);
    failed += !are(1);
    ::operator delete[](::operator new[](size, wide, std::nothrow), wide, std::nothrow);
    failed += !are(1);
    return failed;
}

// What the program's operators refuse is refused by all forms.
int refused()
{
    const std::align_val_t wide{128};
    volatile std::size_t most = MOST + 1;
    int failed = 0;

    failed += !refuses([&] { return ::operator new[](most); });
    failed += !refuses([&] { return ::operator new(most, std::nothrow); });
    failed += !refuses([&] { return ::operator new[](most, std::nothrow); });
    failed += !refuses([&] { return ::operator new[](most, wide); });
    failed += !refuses([&] { return ::operator new(most, wide, std::nothrow); });
    failed += !refuses([&] { return ::operator new[](most, wide, std::nothrow); });
    return failed + !are(0);
}

// What the library's templates, and the compiler, make of it.
int templates()
{
    std::vector<Part> parts(2000);
    int failed = 0;

    for (int i = 0; i < 2000; i++)
        parts[static_cast<std::size_t>(i)].number = i * 7919 % 2003;
    std::stable_sort(parts.begin(), parts.end()); // asks for its buffer by a form that does not throw
    failed += parts[1000].number < 1000;
    std::make_unique<Wide[]>(3);
    std::make_shared<Part>();
    std::function<std::size_t()> kept = [text = std::string(300, 'x'), part = parts[0]] {
        return text.size() + sizeof(part);
    };
    failed += kept() != 300 + sizeof(Part);
    delete new Part;
    delete[] new Part[5];
    delete new (std::nothrow) Wide;
    return failed;
}

} // namespace

int main()
{
    int failed = refused();

    for (std::size_t size : {std::size_t{1}, std::size_t{100}, std::size_t{70000}, std::size_t{1} << 20})
        failed += plain(size) + aligned(size);
    forget();
    failed += templates();
    return failed + !are_at_least(9);
}
