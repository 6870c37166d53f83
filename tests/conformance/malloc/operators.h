// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>

// What the operators refuse is larger.
const std::size_t MOST = 1 << 24;

// Whether since the last call so many blocks were given, and all of them taken.
bool are(int count);
bool are_at_least(int count);
// Begins to count anew.
void forget();
