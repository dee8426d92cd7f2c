// Moves, choices and comparisons.
#include "execute.h"

namespace ptx {
namespace {

struct Same {
    template <class T>
    T operator()(T a) const {
        return a;
    }
};
struct Select {
    template <class T>
    std::enable_if_t<!std::is_same_v<T, bool>, T> operator()(T a, T b, bool first) const {
        return first ? a : b;
    }
};

void pack(Step& step) {
    const int count = step.in.count, bits = 8 * size_of(step.in.type) / count;
    const std::uint64_t ones = (std::uint64_t{1} << bits) - 1;
    each_lane(step.lanes, [&](int lane) {
        std::uint64_t packed = 0;
        for (int k = 0; k < count; ++k) packed |= (step.operand(k)[lane] & ones) << (bits * k);
        step.result(0)[lane] = packed;
    });
}
void unpack(Step& step) {
    const int count = step.in.count, bits = 8 * size_of(step.in.type) / count;
    const std::uint64_t ones = (std::uint64_t{1} << bits) - 1;
    each_lane(step.lanes, [&](int lane) {
        const std::uint64_t packed = step.operand(0)[lane];
        for (int k = 0; k < count; ++k) step.result(k)[lane] = packed >> (bits * k) & ones;
    });
}

enum Comparison : std::uint8_t { kEq, kNe, kLt, kLe, kGt, kGe, kEqu, kNeu, kLtu, kLeu, kGtu, kGeu, kNum, kNan };
enum Combination : std::uint8_t { kAlone, kAnd, kOr, kXor };
const std::map<std::string, Comparison> kComparisons = {
    {"eq", kEq},   {"ne", kNe},   {"lt", kLt},   {"le", kLe},   {"gt", kGt},   {"ge", kGe},
    {"lo", kLt},   {"ls", kLe},   {"hi", kGt},   {"hs", kGe},   {"equ", kEqu}, {"neu", kNeu},
    {"ltu", kLtu}, {"leu", kLeu}, {"gtu", kGtu}, {"geu", kGeu}, {"num", kNum}, {"nan", kNan},
};
const std::map<std::string, Combination> kCombinations = {{"and", kAnd}, {"or", kOr}, {"xor", kXor}};

// Those that end in u hold for a NaN, too.
template <class T>
bool compares(int comparison, T a, T b) {
    switch (comparison) {
        case kEq:
            return a == b;
        case kNe:
            return a < b || a > b;
        case kLt:
            return a < b;
        case kLe:
            return a <= b;
        case kGt:
            return a > b;
        case kGe:
            return a >= b;
        case kEqu:
            return !(a < b || a > b);
        case kNeu:
            return !(a == b);
        case kLtu:
            return !(a >= b);
        case kLeu:
            return !(a > b);
        case kGtu:
            return !(a <= b);
        case kGeu:
            return !(a < b);
        case kNum:
            return a == a && b == b;
        default:
            return a != a || b != b;
    }
}
bool combines(int combination, bool a, bool b) {
    return combination == kAlone ? a : combination == kAnd ? a && b : combination == kOr ? a || b : a != b;
}

template <class T>
void set_predicate(Step& step) {
    const int comparison = step.in.mode & 15, combination = step.in.mode >> 4;
    each_lane(step.lanes, [&](int lane) {
        const bool with = combination != kAlone && value_of<bool>(step.operand(2)[lane]);
        const bool holds = compares(comparison, value_of<T>(step.operand(0)[lane]), value_of<T>(step.operand(1)[lane]));
        step.result(0)[lane] = bits_of(combines(combination, holds, with));
        if (step.in.count == 2) step.result(1)[lane] = bits_of(combines(combination, !holds, with));
    });
}

void define_setp(Statement& s) {
    s.allow({"eq",  "ne",  "lt",  "le",  "gt",  "ge",  "lo",  "ls",  "hi", "hs", "equ",
             "neu", "ltu", "leu", "gtu", "geu", "num", "nan", "and", "or", "xor"});
    const auto combination = kCombinations.find(s.words.at(2));
    s.instruction.mode = static_cast<std::uint8_t>(kComparisons.at(s.words.at(1)));
    if (combination != kCombinations.end()) s.instruction.mode |= static_cast<std::uint8_t>(combination->second << 4);
    for (const std::string& result : split(s.operands.at(0), '|')) s.next_result(trimmed(result), Type::pred);
    s.instruction.count = static_cast<std::uint8_t>(s.results_taken);
    s.operand(1, s.type());
    s.operand(2, s.type());
    if (combination != kCombinations.end()) s.operand(3, Type::pred);
    set_execute(s, for_type(s.type(), [](auto tag) -> Execute { return set_predicate<typename decltype(tag)::type>; }));
}

void define_mov(Statement& s) {
    s.allow({});
    if (s.operands.at(1)[0] == '{') {
        s.result(0, s.type());
        for (const std::string& element : s.elements(1)) s.next_operand(element, s.type());
        s.instruction.count = static_cast<std::uint8_t>(s.operands_taken);
        s.instruction.execute = pack;
    } else if (s.operands[0][0] == '{') {
        for (const std::string& element : s.elements(0)) s.next_result(element, s.type());
        s.operand(1, s.type());
        s.instruction.count = static_cast<std::uint8_t>(s.results_taken);
        s.instruction.execute = unpack;
    } else {
        s.result_and_operands();
        set_execute(s, unary<Same>(s.type()));
    }
}

void define_selp(Statement& s) {
    s.allow({});
    s.result(0, s.type());
    s.operand(1, s.type());
    s.operand(2, s.type());
    s.operand(3, Type::pred);
    set_execute(s, for_type(s.type(), [](auto tag) -> Execute {
                    using T = typename decltype(tag)::type;
                    if constexpr (std::is_invocable_v<Select, T, T, bool>)
                        return compute<Select, T, T, bool>;
                    else
                        return nullptr;
                }));
}

}  // namespace

void add_choice_opcodes(Opcodes& opcodes) {
    opcodes["mov"] = define_mov;
    opcodes["selp"] = define_selp;
    opcodes["setp"] = define_setp;
}

}  // namespace ptx
