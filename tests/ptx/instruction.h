// What the text of a kernel becomes: instructions over numbered registers.
#pragma once

#include <array>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace ptx {

constexpr int kLanes = 32;
using LaneMask = std::uint32_t;
constexpr LaneMask kAllLanes = ~LaneMask{0};

// A register of a warp: a value for each lane, in its low bits. What lies above the width of an instruction's type is
// never looked at.
using Register = std::array<std::uint64_t, kLanes>;

enum class Type : std::uint8_t { none, pred, b8, b16, b32, b64, u8, u16, u32, u64, s8, s16, s32, s64, f16, bf16, f32, f64 };
enum class Space : std::uint8_t { generic, global, shared, local, parameter };
enum class Cache : std::uint8_t { every_level, read_only, second_level, uncached };

// What happens to the lanes that come to an instruction.
enum class Flow : std::uint8_t {
    next,    // it runs, and they go on
    branch,  // they go on at `target`, where the guard holds
    leave,   // they end
    meet,    // it runs when all lanes of a mask, its operand `mask_operand`, are there
    barrier  // they go on when all threads of the block are there
};

struct Step;
using Execute = void (*)(Step&);

struct Instruction {
    Execute execute = nullptr;
    Flow flow = Flow::next;
    Type type = Type::none, from = Type::none;
    Space space = Space::generic;
    Cache cache = Cache::every_level;
    std::uint8_t mode = 0, count = 1;  // what an opcode's modifiers say; elements of a vector
    bool guard_negated = false, uniform = false, is_target = false, writes = false, atomic = false;
    std::uint8_t mask_operand = 0;
    std::int32_t guard = -1, target = -1, line = 0;
    std::int64_t offset = 0;
    std::array<std::int32_t, 4> results{};
    std::array<std::int32_t, 5> operands{};
    std::string text;
};

struct Variable {
    std::string name;
    int bytes = 0, alignment = 1, offset = 0;
};

struct Kernel {
    std::string name, file;
    std::vector<Instruction> code;
    int registers = 0;
    std::vector<std::pair<int, std::uint64_t>> constants;  // registers that hold a number,
    std::vector<std::pair<int, std::string>> specials;     // and those that hold a place in the grid
    std::vector<Variable> parameters;
    int parameter_bytes = 0, local_bytes = 0;
    int shared_bytes = 0;  // static ones; dynamic ones follow
    int most_threads = 0;  // of a block; 0: unknown
};

[[noreturn]] inline void fail(const std::string& sentence) {
    throw std::runtime_error("PTX interpreter: " + sentence);
}

inline int size_of(Type type) {
    switch (type) {
        case Type::pred:
        case Type::b8:
        case Type::u8:
        case Type::s8:
            return 1;
        case Type::b16:
        case Type::u16:
        case Type::s16:
        case Type::f16:
        case Type::bf16:
            return 2;
        case Type::b32:
        case Type::u32:
        case Type::s32:
        case Type::f32:
            return 4;
        default:
            return 8;
    }
}

inline bool is_signed(Type type) {
    return type == Type::s8 || type == Type::s16 || type == Type::s32 || type == Type::s64;
}

}  // namespace ptx
