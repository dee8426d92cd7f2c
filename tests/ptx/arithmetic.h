// Sums, products, quotients and extremes, as functions of numbers; those of integers wrap.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <type_traits>

#include "execute.h"

namespace ptx {

template <class T, class Result = T>
using IfInteger = std::enable_if_t<kIsInteger<T>, Result>;
template <class T, class Result = T>
using IfFloat = std::enable_if_t<kIsFloat<T>, Result>;
template <class T, class Result = T>
using IfUnsigned = std::enable_if_t<kIsInteger<T> && std::is_unsigned_v<T>, Result>;
template <class T, class Result = T>
using IfWide = std::enable_if_t<kIsInteger<T> && sizeof(T) >= 4, Result>;

struct Add {
    template <class T>
    IfFloat<T> operator()(T a, T b) const {
        return a + b;
    }
    template <class T>
    IfInteger<T> operator()(T a, T b) const {
        return static_cast<T>(Unsigned<T>(a) + Unsigned<T>(b));
    }
};
struct Subtract {
    template <class T>
    IfFloat<T> operator()(T a, T b) const {
        return a - b;
    }
    template <class T>
    IfInteger<T> operator()(T a, T b) const {
        return static_cast<T>(Unsigned<T>(a) - Unsigned<T>(b));
    }
};
struct Multiply {
    template <class T>
    IfFloat<T> operator()(T a, T b) const {
        return a * b;
    }
    template <class T>
    IfInteger<T> operator()(T a, T b) const {
        return static_cast<T>(std::uint64_t(a) * std::uint64_t(b));
    }
};
template <class T>
using Doubled = std::conditional_t<std::is_signed_v<T>, __int128, unsigned __int128>;
struct MultiplyHigh {
    template <class T>
    IfInteger<T> operator()(T a, T b) const {
        return static_cast<T>(Doubled<T>(a) * Doubled<T>(b) >> (8 * sizeof(T)));
    }
};
template <std::size_t kBytes, bool kSigned>
struct Integer;
template <>
struct Integer<2, true> {
    using type = std::int32_t;
};
template <>
struct Integer<2, false> {
    using type = std::uint32_t;
};
template <>
struct Integer<4, true> {
    using type = std::int64_t;
};
template <>
struct Integer<4, false> {
    using type = std::uint64_t;
};
template <class T>
using Wide = typename Integer<sizeof(T), std::is_signed_v<T>>::type;
struct MultiplyWide {
    template <class T>
    auto operator()(T a, T b) const -> IfInteger<T, Wide<T>> {
        return static_cast<Wide<T>>(Doubled<T>(a) * Doubled<T>(b));
    }
};
struct MultiplyAdd {
    template <class T>
    IfInteger<T> operator()(T a, T b, T c) const {
        return static_cast<T>(std::uint64_t(a) * std::uint64_t(b) + std::uint64_t(c));
    }
};
// What a division by zero gives is not specified: all bits set.
struct Divide {
    template <class T>
    IfFloat<T> operator()(T a, T b) const {
        return a / b;
    }
    template <class T>
    IfWide<T> operator()(T a, T b) const {
        if (b == T(0)) return static_cast<T>(-1);
        if (std::is_signed_v<T> && b == static_cast<T>(-1)) return Subtract{}(T(0), a);
        return a / b;
    }
};
struct Remainder {
    template <class T>
    IfWide<T> operator()(T a, T b) const {
        if (b == T(0)) return a;
        if (std::is_signed_v<T> && b == static_cast<T>(-1)) return T(0);
        return a % b;
    }
};
struct Negate {
    template <class T>
    std::enable_if_t<kIsInteger<T> && std::is_signed_v<T>, T> operator()(T a) const {
        return Subtract{}(T(0), a);
    }
    template <class T>
    IfFloat<T> operator()(T a) const {
        return -a;
    }
};
struct Absolute {
    template <class T>
    std::enable_if_t<kIsInteger<T> && std::is_signed_v<T>, T> operator()(T a) const {
        return a < T(0) ? Negate{}(a) : a;
    }
    template <class T>
    IfFloat<T> operator()(T a) const {
        return std::fabs(a);
    }
};

// A NaN is left aside; of zeros the negative one is the smaller.
template <bool kLarger>
struct Extreme {
    template <class T>
    IfInteger<T> operator()(T a, T b) const {
        return kLarger ? std::max(a, b) : std::min(a, b);
    }
    template <class T>
    IfFloat<T> operator()(T a, T b) const {
        if (a != a && b != b) return value_of<T>(sizeof(T) == 4 ? 0x7fffffff : 0x7fffffffffffffff);
        if (a != a) return b;
        if (b != b) return a;
        if (a == b) return std::signbit(a) == kLarger ? b : a;
        return (a < b) == kLarger ? b : a;
    }
};

}  // namespace ptx
