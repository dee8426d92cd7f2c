// Float64 arithmetic, logarithm and exponential with the same bits on every processor: steps rounded once each, no library
// function and no fused multiply-add. Host translation units that use it are compiled with -ffp-contract=off.
//
// Both functions are within one unit in the last place of the exact result.
#pragma once

#include "core/portability.h"

namespace softbellman {

SB_INLINE double exact_multiply(double a, double b) {
#if defined(__CUDA_ARCH__)
    return __dmul_rn(a, b);
#else
    return a * b;
#endif
}

SB_INLINE double exact_add(double a, double b) {
#if defined(__CUDA_ARCH__)
    return __dadd_rn(a, b);
#else
    return a + b;
#endif
}

SB_INLINE double exact_divide(double a, double b) {
#if defined(__CUDA_ARCH__)
    return __ddiv_rn(a, b);
#else
    return a / b;
#endif
}

// log(2) in two parts: the first has 32 significant bits, so its product with an exponent is exact.
constexpr double kLogTwoHigh = 6.93147180369123816490e-01;
constexpr double kLogTwoLow = 1.90821492927058770002e-10;

// Natural logarithm of x 2^power, |power| < 2^20: -infinity at 0, NaN below. With x = 2^k (1 + f), sqrt(1/2) <= 1 + f <
// sqrt(2), and s = f / (2 + f):
//     log(1 + f) = 2 atanh(s) = f - (f^2/2 - s (f^2/2 + R)),  R = 2/3 s^2 + 2/5 s^4 + ... + 2/21 s^20,
// whose next term is below 2^-60 of the sum.
SB_HD inline double exact_log(double x, int power = 0) {
    if (!(x > 0.0)) return x == 0.0 ? -infinity<double>() : bit_cast<double>(uint64_t{0x7ff8000000000000});
    if (x == infinity<double>()) return x;
    int64_t exponent = power;
    if (x < 2.2250738585072014e-308) {  // subnormal
        x = exact_multiply(x, 18014398509481984.0);
        exponent -= 54;
    }
    const uint64_t root = 0x3fe6a09e667f3bcd;  // the bits of sqrt(1/2)
    const uint64_t shifted = bit_cast<uint64_t>(x) - root;
    exponent += static_cast<int64_t>(shifted) >> 52;
    const double f = exact_add(bit_cast<double>((shifted & 0x000fffffffffffff) + root), -1.0);
    const double k = static_cast<double>(exponent);

    const double s = exact_divide(f, exact_add(2.0, f));
    const double z = exact_multiply(s, s);
    double r = 2.0 / 21.0;
    r = exact_add(exact_multiply(r, z), 2.0 / 19.0);
    r = exact_add(exact_multiply(r, z), 2.0 / 17.0);
    r = exact_add(exact_multiply(r, z), 2.0 / 15.0);
    r = exact_add(exact_multiply(r, z), 2.0 / 13.0);
    r = exact_add(exact_multiply(r, z), 2.0 / 11.0);
    r = exact_add(exact_multiply(r, z), 2.0 / 9.0);
    r = exact_add(exact_multiply(r, z), 2.0 / 7.0);
    r = exact_add(exact_multiply(r, z), 2.0 / 5.0);
    r = exact_add(exact_multiply(r, z), 2.0 / 3.0);
    r = exact_multiply(r, z);
    const double half_square = exact_multiply(exact_multiply(0.5, f), f);
    const double small = exact_add(exact_multiply(s, exact_add(half_square, r)), exact_multiply(k, kLogTwoLow));
    return exact_add(exact_multiply(k, kLogTwoHigh), -exact_add(exact_add(half_square, -small), -f));
}

// Exponential: 0 below -745.2, infinity above 709.8. With x = k log(2) + r, |r| <= log(2) / 2, the Taylor polynomial of
// degree 13 in r, whose next term is below 2^-57, times 2^k.
SB_HD inline double exact_exp(double x) {
    if (!(x == x)) return x;
    if (x < -746.0) return 0.0;
    if (x > 710.0) return infinity<double>();
    const double turns = exact_multiply(x, 1.4426950408889634);
    const int k = static_cast<int>(exact_add(turns, turns < 0.0 ? -0.5 : 0.5));
    const double high = exact_add(x, -exact_multiply(static_cast<double>(k), kLogTwoHigh));
    const double low = exact_multiply(static_cast<double>(k), kLogTwoLow);
    const double r = exact_add(high, -low);
    const double lost = exact_add(exact_add(high, -r), -low);

    double p = 1.0 / 6227020800.0;
    p = exact_add(exact_multiply(p, r), 1.0 / 479001600.0);
    p = exact_add(exact_multiply(p, r), 1.0 / 39916800.0);
    p = exact_add(exact_multiply(p, r), 1.0 / 3628800.0);
    p = exact_add(exact_multiply(p, r), 1.0 / 362880.0);
    p = exact_add(exact_multiply(p, r), 1.0 / 40320.0);
    p = exact_add(exact_multiply(p, r), 1.0 / 5040.0);
    p = exact_add(exact_multiply(p, r), 1.0 / 720.0);
    p = exact_add(exact_multiply(p, r), 1.0 / 120.0);
    p = exact_add(exact_multiply(p, r), 1.0 / 24.0);
    p = exact_add(exact_multiply(p, r), 1.0 / 6.0);
    p = exact_add(exact_multiply(p, r), 0.5);
    p = exact_add(exact_multiply(exact_multiply(p, r), r), lost);
    const double value = exact_add(1.0, exact_add(r, p));

    // 2^k in two factors: k reaches -1076 and 1024, beyond one normal number's exponent.
    const int half = k / 2;
    const double first = bit_cast<double>(static_cast<uint64_t>(1023 + half) << 52);
    const double second = bit_cast<double>(static_cast<uint64_t>(1023 + k - half) << 52);
    return exact_multiply(exact_multiply(value, first), second);
}

// log(exp(a) + exp(b)); either may be -infinity.
SB_HD inline double exact_log_add(double a, double b) {
    const double larger = a > b ? a : b, smaller = a > b ? b : a;
    if (smaller == -infinity<double>()) return larger;
    return exact_add(larger, exact_log(exact_add(1.0, exact_exp(exact_add(smaller, -larger)))));
}

}  // namespace softbellman
