// cvt and cvta: between number formats, and between addresses of a space and generic ones.
#include <cmath>
#include <limits>

#include "execute.h"

namespace ptx {
namespace {

enum Rounding : std::uint8_t { kNone, kToZero, kToEven, kDown, kUp };
constexpr std::uint8_t kSaturate = 8;

bool is_float(Type type) {
    return type == Type::f16 || type == Type::bf16 || type == Type::f32 || type == Type::f64;
}

// ---- floating-point formats, by way of double: every float is one ----

// `exponent_bits` and `fraction_bits` of a 16-bit format.
double from_half(std::uint16_t bits, int exponent_bits, int fraction_bits) {
    const int bias = (1 << (exponent_bits - 1)) - 1, exponent = bits >> fraction_bits & ((1 << exponent_bits) - 1);
    const int fraction = bits & ((1 << fraction_bits) - 1);
    const double sign = (bits & 0x8000) != 0 ? -1.0 : 1.0;
    if (exponent == 2 * bias + 1) return fraction != 0 ? std::nan("") : sign * HUGE_VAL;
    if (exponent == 0) return sign * std::ldexp(fraction, 1 - bias - fraction_bits);
    return sign * std::ldexp(fraction + (1 << fraction_bits), exponent - bias - fraction_bits);
}

std::uint16_t to_half(double x, int exponent_bits, int fraction_bits) {
    const int bias = (1 << (exponent_bits - 1)) - 1;
    const auto infinity = static_cast<std::uint16_t>((2 * bias + 1) << fraction_bits);
    if (x != x) return 0x7fff;
    const auto sign = static_cast<std::uint16_t>(std::signbit(x) ? 0x8000 : 0);
    const double magnitude = std::fabs(x);
    if (magnitude == HUGE_VAL) return sign | infinity;
    const int power = magnitude == 0.0 ? -bias : std::max(std::ilogb(magnitude), 1 - bias);
    // Units of the last place; the carry of a fraction that rounds up to one is the next exponent.
    const auto units = static_cast<std::uint32_t>(std::nearbyint(std::ldexp(magnitude, fraction_bits - power)));
    const auto bits = units + (static_cast<std::uint32_t>(std::max(power + bias - 1, 0)) << fraction_bits);
    return sign | static_cast<std::uint16_t>(bits > infinity ? infinity : bits);
}

double float_of(std::uint64_t bits, Type type) {
    switch (type) {
        case Type::f16:
            return from_half(static_cast<std::uint16_t>(bits), 5, 10);
        case Type::bf16:
            return from_half(static_cast<std::uint16_t>(bits), 8, 7);
        case Type::f32:
            return static_cast<double>(value_of<float>(bits));
        default:
            return value_of<double>(bits);
    }
}

std::uint64_t float_bits(double x, Type type) {
    switch (type) {
        case Type::f16:
            return to_half(x, 5, 10);
        case Type::bf16:
            return to_half(x, 8, 7);
        case Type::f32:
            return bits_of(static_cast<float>(x));
        default:
            return bits_of(x);
    }
}

double rounded(double x, int rounding) {
    switch (rounding) {
        case kToZero:
            return std::trunc(x);
        case kToEven:
            return std::nearbyint(x);
        case kDown:
            return std::floor(x);
        case kUp:
            return std::ceil(x);
        default:
            return x;
    }
}

void float_to_float(Step& step) {
    const int rounding = step.in.mode & ~kSaturate;
    const bool saturates = (step.in.mode & kSaturate) != 0;
    each_lane(step.lanes, [&](int lane) {
        double x = rounded(float_of(step.operand(0)[lane], step.in.from), rounding);
        if (saturates) x = !(x > 0.0) ? 0.0 : x > 1.0 ? 1.0 : x;
        step.result(0)[lane] = float_bits(x, step.in.type);
    });
}

// What lies outside becomes the nearest integer there is, a NaN 0.
template <class T>
std::uint64_t clamped(double x) {
    if (x != x) return 0;
    const double least = static_cast<double>(std::numeric_limits<T>::min()),
                 most = static_cast<double>(std::numeric_limits<T>::max());
    return bits_of(x <= least  ? std::numeric_limits<T>::min()
                   : x >= most ? std::numeric_limits<T>::max()
                               : static_cast<T>(x));
}

template <class T>
void float_to_integer(Step& step) {
    each_lane(step.lanes, [&](int lane) {
        step.result(0)[lane] = clamped<T>(rounded(float_of(step.operand(0)[lane], step.in.from), step.in.mode));
    });
}

template <class From, class To>
void integer_to(Step& step) {
    each_lane(step.lanes,
              [&](int lane) { step.result(0)[lane] = bits_of(static_cast<To>(value_of<From>(step.operand(0)[lane]))); });
}

template <class From>
Execute from_integer(Type to) {
    return for_type(to, [](auto tag) -> Execute { return integer_to<From, typename decltype(tag)::type>; });
}

Execute between_integers(Type from, Type to) {
    return for_type(from, [&](auto tag) -> Execute {
        using From = typename decltype(tag)::type;
        if constexpr (kIsInteger<From>)
            return from_integer<From>(to);
        else
            return nullptr;
    });
}

Execute to_integer(Type to) {
    return for_type(to, [](auto tag) -> Execute {
        using To = typename decltype(tag)::type;
        if constexpr (kIsInteger<To>)
            return float_to_integer<To>;
        else
            return nullptr;
    });
}

void define_cvt(Statement& s) {
    s.allow({"rn", "rzi", "rni", "rmi", "rpi", "sat"});
    if (s.types.size() != 2) s.refuse("a conversion without two types");
    const Type to = s.types[0], from = s.instruction.from = s.types[1];
    s.instruction.mode = s.has("rzi") ? kToZero : s.has("rni") ? kToEven : s.has("rmi") ? kDown : s.has("rpi") ? kUp : kNone;
    s.result(0, to);
    s.operand(1, from);
    if (s.has("sat")) {
        if (!is_float(from) || !is_float(to)) s.refuse("a saturating conversion of integers");
        s.instruction.mode |= kSaturate;
    }
    if (!is_float(from)) return set_execute(s, between_integers(from, to));
    // Rounding twice, by way of float, would be wrong.
    if (from == Type::f64 && (to == Type::f16 || to == Type::bf16)) s.refuse("this pair of types");
    if (is_float(to)) return set_execute(s, float_to_float);
    if (s.instruction.mode == kNone) s.refuse("a conversion to integers without rounding");
    set_execute(s, to_integer(to));
}

// ---- addresses: a generic one is the host's ----

void same_address(Step& step) {
    each_lane(step.lanes, [&](int lane) { step.result(0)[lane] = step.operand(0)[lane]; });
}
template <bool kToSpace>
void move_address(Step& step) {
    each_lane(step.lanes, [&](int lane) {
        const std::uint64_t start = step.in.space == Space::shared ? step.shared_start() : step.local_start(lane);
        step.result(0)[lane] = kToSpace ? step.operand(0)[lane] - start : step.operand(0)[lane] + start;
    });
}

void define_cvta(Statement& s) {
    s.allow({"to", "global", "shared", "local"});
    s.result_and_operands();
    s.instruction.space = s.has("global") ? Space::global : s.has("shared") ? Space::shared : Space::local;
    if (s.instruction.space == Space::global)
        s.instruction.execute = same_address;
    else
        s.instruction.execute = s.has("to") ? move_address<true> : move_address<false>;
}

}  // namespace

void add_conversion_opcodes(Opcodes& opcodes) {
    opcodes["cvt"] = define_cvt;
    opcodes["cvta"] = define_cvta;
}

}  // namespace ptx
