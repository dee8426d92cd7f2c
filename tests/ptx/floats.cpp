// Functions of floating point: products that are added with one rounding, roots, and the approximations of a GPU, which are
// computed exactly here, or changed within what PTX promises of them (Settings::approximate).
#include <cfenv>
#include <cmath>

#include "execute.h"

namespace ptx {
namespace {

struct FusedMultiplyAdd {
    template <class T>
    std::enable_if_t<kIsFloat<T>, T> operator()(T a, T b, T c) const {
        return std::fma(a, b, c);
    }
};
struct SquareRoot {
    template <class T>
    std::enable_if_t<kIsFloat<T>, T> operator()(T a) const {
        return std::sqrt(a);
    }
};
struct Reciprocal {
    template <class T>
    std::enable_if_t<kIsFloat<T>, T> operator()(T a) const {
        return T(1) / a;
    }
};

template <class T>
T without_subnormal(T x) {
    return std::fpclassify(x) == FP_SUBNORMAL ? std::copysign(T(0), x) : x;
}

// The upper half of 1 / x, of the upper half of x.
struct ReciprocalHigh {
    double operator()(double a) const {
        constexpr std::uint64_t kHigh = 0xffffffff00000000;
        const double x = without_subnormal(value_of<double>(bits_of(a) & kHigh));
        return value_of<double>(bits_of(without_subnormal(1.0 / x)) & kHigh);
    }
};

// fma rounded down, as the range reduction of expf asks for.
void fused_multiply_add_down(Step& step) {
    const int mode = std::fegetround();
    std::fesetround(FE_DOWNWARD);
    each_lane(step.lanes, [&](int lane) {
        volatile float a = value_of<float>(step.operand(0)[lane]), b = value_of<float>(step.operand(1)[lane]);
        volatile float c = value_of<float>(step.operand(2)[lane]);
        step.result(0)[lane] = bits_of(std::fma(a, b, c));
    });
    std::fesetround(mode);
}

std::uint32_t scrambled(std::uint32_t x) {
    x = (x ^ x >> 16) * 0x7feb352du;
    x = (x ^ x >> 15) * 0x846ca68bu;
    return x ^ x >> 16;
}

// PTX: ex2.approx.f32 has at most 2 ulp of error, lg2.approx.f32 2^-22, relative outside [1/2, 2].
float changed_power(float exact, float x) {
    if (!settings.approximate || !std::isfinite(exact) || exact == 0.0f) return exact;
    const auto ulps = static_cast<std::int32_t>(scrambled(static_cast<std::uint32_t>(bits_of(x))) % 5) - 2;
    return value_of<float>(bits_of(exact) + static_cast<std::uint64_t>(static_cast<std::int64_t>(ulps)));
}
float changed_logarithm(float exact, float x) {
    if (!settings.approximate || !std::isfinite(exact)) return exact;
    const auto direction = static_cast<std::int32_t>(scrambled(static_cast<std::uint32_t>(bits_of(x))) % 3) - 1;
    const double error = std::ldexp(direction, -22);
    return static_cast<float>(x >= 0.5f && x <= 2.0f ? exact + error : exact * (1.0 + error));
}

template <bool kFlush>
struct PowerOfTwo {
    float operator()(float x) const {
        if (!kFlush) return changed_power(static_cast<float>(std::exp2(static_cast<double>(x))), x);
        x = without_subnormal(x);
        const auto power = without_subnormal(static_cast<float>(std::exp2(static_cast<double>(x))));
        return without_subnormal(changed_power(power, x));
    }
};
template <bool kFlush>
struct LogarithmOfTwo {
    float operator()(float x) const {
        if (kFlush) x = without_subnormal(x);
        return changed_logarithm(static_cast<float>(std::log2(static_cast<double>(x))), x);
    }
};

void define_fma(Statement& s) {
    s.allow({"rn", "rm"});
    s.result_and_operands();
    if (s.has("rm") && s.type() != Type::f32) s.refuse("this type");
    set_execute(s, s.has("rm") ? fused_multiply_add_down : ternary<FusedMultiplyAdd>(s.type()));
}

void define_sqrt(Statement& s) {
    s.allow({"rn"});
    s.result_and_operands();
    set_execute(s, unary<SquareRoot>(s.type()));
}

void define_rcp(Statement& s) {
    s.allow({"rn", "approx", "ftz"});
    s.result_and_operands();
    if (!s.has("approx")) return set_execute(s, unary<Reciprocal>(s.type()));
    if (s.type() != Type::f64) s.refuse("this type");
    s.instruction.execute = compute<ReciprocalHigh, double>;
}

template <template <bool> class Operation>
void define_approximation(Statement& s) {
    s.allow({"approx", "ftz"});
    s.result_and_operands();
    if (s.type() != Type::f32) s.refuse("this type");
    s.instruction.execute = s.has("ftz") ? compute<Operation<true>, float> : compute<Operation<false>, float>;
}

}  // namespace

void add_float_opcodes(Opcodes& opcodes) {
    opcodes["fma"] = define_fma;
    opcodes["sqrt"] = define_sqrt;
    opcodes["rcp"] = define_rcp;
    opcodes["ex2"] = define_approximation<PowerOfTwo>;
    opcodes["lg2"] = define_approximation<LogarithmOfTwo>;
}

}  // namespace ptx
