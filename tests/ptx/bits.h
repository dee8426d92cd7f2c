// Operations on bits and predicates, as functions of numbers.
#pragma once

#include "arithmetic.h"

namespace ptx {

struct And {
    template <class T>
    std::enable_if_t<!kIsFloat<T>, T> operator()(T a, T b) const {
        return static_cast<T>(a & b);
    }
};
struct Or {
    template <class T>
    std::enable_if_t<!kIsFloat<T>, T> operator()(T a, T b) const {
        return static_cast<T>(a | b);
    }
};
struct ExclusiveOr {
    template <class T>
    std::enable_if_t<!kIsFloat<T>, T> operator()(T a, T b) const {
        return static_cast<T>(a ^ b);
    }
};
struct Not {
    template <class T>
    IfInteger<T> operator()(T a) const {
        return static_cast<T>(~a);
    }
    bool operator()(bool a) const { return !a; }
};
template <class T>
constexpr std::uint32_t kBits = 8 * sizeof(T);
struct ShiftLeft {
    template <class T>
    IfInteger<T> operator()(T a, std::uint32_t n) const {
        return n >= kBits<T> ? T(0) : static_cast<T>(Unsigned<T>(a) << n);
    }
};
struct ShiftRight {
    template <class T>
    IfInteger<T> operator()(T a, std::uint32_t n) const {
        if (n < kBits<T>) return static_cast<T>(a >> n);
        return a < T(0) ? static_cast<T>(-1) : T(0);
    }
};
template <bool kRight>
struct FunnelShift {
    std::uint32_t operator()(std::uint32_t low, std::uint32_t high, std::uint32_t n) const {
        const std::uint64_t both = std::uint64_t{high} << 32 | low;
        return static_cast<std::uint32_t>(kRight ? both >> (n & 31) : both << (n & 31) >> 32);
    }
};
struct InsertBits {
    template <class T>
    IfUnsigned<T> operator()(T a, T b, std::uint32_t position, std::uint32_t length) const {
        position &= 255, length &= 255;
        if (position >= kBits<T>) return b;
        const std::uint64_t ones = length >= 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << length) - 1;
        return static_cast<T>((b & ~(ones << position)) | (a & ones) << position);
    }
};
struct ExtractBits {
    template <class T>
    IfUnsigned<T> operator()(T a, std::uint32_t position, std::uint32_t length) const {
        position &= 255, length &= 255;
        const std::uint64_t ones = length >= 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << length) - 1;
        return position >= kBits<T> ? T(0) : static_cast<T>(std::uint64_t{a} >> position & ones);
    }
};
// Where the highest bit stands, or how far below the top; all ones without any.
template <bool kFromTop>
struct FindHighest {
    std::uint32_t operator()(std::uint32_t a) const {
        if (a == 0) return ~0u;
        const auto leading = static_cast<std::uint32_t>(__builtin_clz(a));
        return kFromTop ? leading : 31 - leading;
    }
};
struct ReverseBits {
    std::uint32_t operator()(std::uint32_t a) const {
        std::uint32_t reversed = 0;
        for (int k = 0; k < 32; ++k) reversed |= (a >> k & 1) << (31 - k);
        return reversed;
    }
};
struct CountBits {
    template <class T>
    IfUnsigned<T, std::uint32_t> operator()(T a) const {
        return static_cast<std::uint32_t>(__builtin_popcountll(a));
    }
};
struct LeadingZeros {
    template <class T>
    std::enable_if_t<kIsInteger<T> && std::is_unsigned_v<T> && sizeof(T) >= 4, std::uint32_t> operator()(T a) const {
        return a == 0 ? kBits<T> : static_cast<std::uint32_t>(__builtin_clzll(a)) - (64 - kBits<T>);
    }
};

}  // namespace ptx
