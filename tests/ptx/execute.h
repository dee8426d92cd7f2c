// How an instruction that only computes runs: a function of its operands, for every lane that takes part.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

#include "kernel_parser.h"
#include "machine.h"

namespace ptx {

template <class Body>
inline void each_lane(LaneMask lanes, Body&& body) {
    if (lanes == kAllLanes) {
        for (int lane = 0; lane < kLanes; ++lane) body(lane);
        return;
    }
    for (; lanes != 0; lanes &= lanes - 1) body(__builtin_ctz(lanes));
}

template <class T>
inline T value_of(std::uint64_t bits) {
    if constexpr (std::is_same_v<T, bool>) {
        return (bits & 1) != 0;
    } else if constexpr (std::is_integral_v<T>) {
        return static_cast<T>(bits);
    } else {
        T value;
        std::memcpy(&value, &bits, sizeof value);
        return value;
    }
}

template <class T>
inline std::uint64_t bits_of(T value) {
    if constexpr (std::is_same_v<T, bool>) {
        return value ? 1 : 0;
    } else if constexpr (std::is_integral_v<T>) {
        return static_cast<std::make_unsigned_t<T>>(value);
    } else {
        std::uint64_t bits = 0;
        std::memcpy(&bits, &value, sizeof value);
        return bits;
    }
}

template <class Operation, class... Operands, std::size_t... kIndex>
inline void compute_each(Step& step, std::index_sequence<kIndex...>) {
    Register& result = step.result(0);
    const Register* const operands[] = {&step.operand(kIndex)...};
    each_lane(step.lanes,
              [&](int lane) { result[lane] = bits_of(Operation{}(value_of<Operands>((*operands[kIndex])[lane])...)); });
}

// Operation{}(operands...) with operands of the given types.
template <class Operation, class... Operands>
void compute(Step& step) {
    compute_each<Operation, Operands...>(step, std::index_sequence_for<Operands...>{});
}

template <class T>
struct TypeTag {
    using type = T;
};

// body(TypeTag<T>) with the C++ type that holds a `type`; null for those that nothing computes with.
template <class Body>
Execute for_type(Type type, const Body& body) {
    switch (type) {
        case Type::pred:
            return body(TypeTag<bool>{});
        case Type::b8:
        case Type::u8:
            return body(TypeTag<std::uint8_t>{});
        case Type::s8:
            return body(TypeTag<std::int8_t>{});
        case Type::b16:
        case Type::u16:
            return body(TypeTag<std::uint16_t>{});
        case Type::s16:
            return body(TypeTag<std::int16_t>{});
        case Type::b32:
        case Type::u32:
            return body(TypeTag<std::uint32_t>{});
        case Type::s32:
            return body(TypeTag<std::int32_t>{});
        case Type::b64:
        case Type::u64:
            return body(TypeTag<std::uint64_t>{});
        case Type::s64:
            return body(TypeTag<std::int64_t>{});
        case Type::f32:
            return body(TypeTag<float>{});
        case Type::f64:
            return body(TypeTag<double>{});
        default:
            return nullptr;
    }
}

template <class T>
constexpr bool kIsInteger = std::is_integral_v<T> && !std::is_same_v<T, bool>;
template <class T>
constexpr bool kIsFloat = std::is_floating_point_v<T>;
// Unsigned, hence without undefined overflow; the low bits of sums and products are the same.
template <class T>
using Unsigned = std::make_unsigned_t<T>;

// The operation on one to three operands of one type; null where it has none for the type.
template <class Operation>
Execute unary(Type type) {
    return for_type(type, [](auto tag) -> Execute {
        using T = typename decltype(tag)::type;
        if constexpr (std::is_invocable_v<Operation, T>)
            return compute<Operation, T>;
        else
            return nullptr;
    });
}
template <class Operation>
Execute binary(Type type) {
    return for_type(type, [](auto tag) -> Execute {
        using T = typename decltype(tag)::type;
        if constexpr (std::is_invocable_v<Operation, T, T>)
            return compute<Operation, T, T>;
        else
            return nullptr;
    });
}
template <class Operation>
Execute ternary(Type type) {
    return for_type(type, [](auto tag) -> Execute {
        using T = typename decltype(tag)::type;
        if constexpr (std::is_invocable_v<Operation, T, T, T>)
            return compute<Operation, T, T, T>;
        else
            return nullptr;
    });
}

inline void set_execute(Statement& statement, Execute execute) {
    if (execute == nullptr) statement.refuse("this type");
    statement.instruction.execute = execute;
}

}  // namespace ptx
