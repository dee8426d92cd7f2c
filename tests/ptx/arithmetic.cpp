// The opcodes of arithmetic and of bits.
#include "arithmetic.h"

#include "bits.h"

namespace ptx {
namespace {

template <class Operation>
void define_unary(Statement& s) {
    s.allow({});
    s.result_and_operands();
    set_execute(s, unary<Operation>(s.type()));
}
template <class Operation>
void define_binary(Statement& s) {
    s.allow({"rn"});
    s.result_and_operands();
    set_execute(s, binary<Operation>(s.type()));
}

void define_mul(Statement& s) {
    s.allow({"rn", "lo", "hi", "wide"});
    s.result_and_operands();
    if (s.has("wide"))
        set_execute(s, binary<MultiplyWide>(s.type()));
    else
        set_execute(s, s.has("hi") ? binary<MultiplyHigh>(s.type()) : binary<Multiply>(s.type()));
}

void define_mad(Statement& s) {
    s.allow({"lo"});
    s.result_and_operands();
    set_execute(s, ternary<MultiplyAdd>(s.type()));
}

template <class Operation>
void define_shift(Statement& s) {
    s.allow({});
    s.result(0, s.type());
    s.operand(1, s.type());
    s.operand(2, Type::u32);
    set_execute(s, for_type(s.type(), [](auto tag) -> Execute {
                    using T = typename decltype(tag)::type;
                    if constexpr (std::is_invocable_v<Operation, T, std::uint32_t>)
                        return compute<Operation, T, std::uint32_t>;
                    else
                        return nullptr;
                }));
}

void define_shf(Statement& s) {
    s.allow({"l", "r", "wrap"});
    if (!s.has("wrap")) s.refuse("a funnel shift that does not wrap");
    s.result_and_operands();
    set_execute(s, s.has("r") ? ternary<FunnelShift<true>>(Type::u32) : ternary<FunnelShift<false>>(Type::u32));
}

void define_bfi(Statement& s) {
    s.allow({});
    s.result(0, s.type());
    s.operand(1, s.type());
    s.operand(2, s.type());
    s.operand(3, Type::u32);
    s.operand(4, Type::u32);
    set_execute(s, for_type(s.type(), [](auto tag) -> Execute {
                    using T = typename decltype(tag)::type;
                    if constexpr (std::is_invocable_v<InsertBits, T, T, std::uint32_t, std::uint32_t>)
                        return compute<InsertBits, T, T, std::uint32_t, std::uint32_t>;
                    else
                        return nullptr;
                }));
}

void define_bfe(Statement& s) {
    s.allow({});
    s.result(0, s.type());
    s.operand(1, s.type());
    s.operand(2, Type::u32);
    s.operand(3, Type::u32);
    set_execute(s, for_type(s.type(), [](auto tag) -> Execute {
                    using T = typename decltype(tag)::type;
                    if constexpr (std::is_invocable_v<ExtractBits, T, std::uint32_t, std::uint32_t>)
                        return compute<ExtractBits, T, std::uint32_t, std::uint32_t>;
                    else
                        return nullptr;
                }));
}

void define_bfind(Statement& s) {
    s.allow({"shiftamt"});
    s.result_and_operands();
    if (s.type() != Type::u32) s.refuse("this type");
    s.instruction.execute =
        s.has("shiftamt") ? compute<FindHighest<true>, std::uint32_t> : compute<FindHighest<false>, std::uint32_t>;
}

void define_brev(Statement& s) {
    s.allow({});
    s.result_and_operands();
    if (s.type() != Type::b32) s.refuse("this type");
    s.instruction.execute = compute<ReverseBits, std::uint32_t>;
}

}  // namespace

void add_arithmetic_opcodes(Opcodes& opcodes) {
    opcodes["add"] = define_binary<Add>;
    opcodes["sub"] = define_binary<Subtract>;
    opcodes["div"] = define_binary<Divide>;
    opcodes["rem"] = define_binary<Remainder>;
    opcodes["min"] = define_binary<Extreme<false>>;
    opcodes["max"] = define_binary<Extreme<true>>;
    opcodes["and"] = define_binary<And>;
    opcodes["or"] = define_binary<Or>;
    opcodes["xor"] = define_binary<ExclusiveOr>;
    opcodes["mul"] = define_mul;
    opcodes["mad"] = define_mad;
    opcodes["neg"] = define_unary<Negate>;
    opcodes["abs"] = define_unary<Absolute>;
    opcodes["not"] = define_unary<Not>;
    opcodes["popc"] = define_unary<CountBits>;
    opcodes["clz"] = define_unary<LeadingZeros>;
    opcodes["shl"] = define_shift<ShiftLeft>;
    opcodes["shr"] = define_shift<ShiftRight>;
    opcodes["shf"] = define_shf;
    opcodes["bfi"] = define_bfi;
    opcodes["bfe"] = define_bfe;
    opcodes["bfind"] = define_bfind;
    opcodes["brev"] = define_brev;
}

}  // namespace ptx
