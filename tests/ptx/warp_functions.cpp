// What lanes of a warp hand each other, and the barrier of a block. `lanes` are those of the mask that are there: all of
// them.
#include "execute.h"

namespace ptx {
namespace {

enum ShuffleMode : std::uint8_t { kUp, kDown, kButterfly, kIndex };

// Where lane `lane` reads, and whether that lies in its segment; else it keeps its own value.
struct Source {
    int lane;
    bool inside;
};
Source shuffle_source(int mode, int lane, std::uint32_t b, std::uint32_t c) {
    const int offset = static_cast<int>(b & 31), clamp = static_cast<int>(c & 31), segment = static_cast<int>(c >> 8 & 31);
    const int last = (lane & segment) | (clamp & ~segment), first = lane & segment;
    int source = lane;
    switch (mode) {
        case kUp:
            source = lane - offset;
            return source >= last ? Source{source, true} : Source{lane, false};
        case kDown:
            source = lane + offset;
            break;
        case kButterfly:
            source = lane ^ offset;
            break;
        default:
            source = first | (offset & ~segment);
    }
    return source <= last ? Source{source, true} : Source{lane, false};
}

void shuffle(Step& step) {
    const Register given = step.operand(0);  // the result may be the same register
    each_lane(step.lanes, [&](int lane) {
        const auto b = value_of<std::uint32_t>(step.operand(1)[lane]), c = value_of<std::uint32_t>(step.operand(2)[lane]);
        const Source source = shuffle_source(step.in.mode, lane, b, c);
        if ((step.lanes >> source.lane & 1) == 0) step.refuse("a shuffle from a lane that is not there");
        step.result(0)[lane] = value_of<std::uint32_t>(given[static_cast<std::size_t>(source.lane)]);
        if (step.in.count == 2) step.result(1)[lane] = bits_of(source.inside);
    });
}

enum VoteMode : std::uint8_t { kBallot, kAny, kAll };

void vote(Step& step) {
    LaneMask ballot = 0;
    each_lane(step.lanes, [&](int lane) { ballot |= LaneMask{value_of<bool>(step.operand(0)[lane])} << lane; });
    const LaneMask result = step.in.mode == kBallot ? ballot : step.in.mode == kAny ? ballot != 0 : ballot == step.lanes;
    each_lane(step.lanes, [&](int lane) { step.result(0)[lane] = result; });
}

template <class T>
void match_any(Step& step) {
    const Register given = step.operand(0);
    each_lane(step.lanes, [&](int lane) {
        LaneMask equal = 0;
        each_lane(step.lanes, [&](int other) {
            if (value_of<T>(given[other]) == value_of<T>(given[lane])) equal |= LaneMask{1} << other;
        });
        step.result(0)[lane] = equal;
    });
}

// Orders what the lanes did before it, where all lanes of the warp take part.
void synchronize_warp(Step& step) {
    if (step.lanes == step.warp.alive) ++step.warp.meetings;
}

void active_lanes(Step& step) {
    each_lane(step.lanes, [&](int lane) { step.result(0)[lane] = step.lanes; });
}

// ---- the opcodes ----

void meets(Statement& s, std::size_t mask_operand, Execute execute) {
    s.instruction.flow = Flow::meet;
    s.instruction.mask_operand = static_cast<std::uint8_t>(s.operands_taken);
    s.operand(mask_operand, Type::u32);
    s.instruction.execute = execute;
}

void define_shfl(Statement& s) {
    s.allow({"sync", "up", "down", "bfly", "idx"});
    if (!s.has("sync")) s.refuse("a shuffle without a mask");
    s.instruction.mode = s.has("up") ? kUp : s.has("down") ? kDown : s.has("bfly") ? kButterfly : kIndex;
    for (const std::string& result : split(s.operands.at(0), '|')) s.next_result(trimmed(result), Type::b32);
    s.instruction.count = static_cast<std::uint8_t>(s.results_taken);
    for (std::size_t k = 1; k < 4; ++k) s.operand(k, Type::u32);
    meets(s, 4, shuffle);
}

void define_vote(Statement& s) {
    s.allow({"sync", "ballot", "any", "all"});
    if (!s.has("sync")) s.refuse("a vote without a mask");
    s.instruction.mode = s.has("ballot") ? kBallot : s.has("any") ? kAny : kAll;
    s.result(0, s.type());
    s.operand(1, Type::pred);
    meets(s, 2, vote);
}

void define_match(Statement& s) {
    s.allow({"any", "sync"});
    if (!s.has("any") || !s.has("sync")) s.refuse("this match");
    s.result(0, Type::b32);
    s.operand(1, s.type());
    meets(s, 2, size_of(s.type()) == 8 ? match_any<std::uint64_t> : match_any<std::uint32_t>);
}

void define_bar(Statement& s) {
    s.allow({"sync", "warp"});
    if (s.has("warp")) return meets(s, 0, synchronize_warp);
    if (!s.has("sync") || s.operands != std::vector<std::string>{"0"}) s.refuse("this barrier");
    s.instruction.flow = Flow::barrier;
}

void define_activemask(Statement& s) {
    s.allow({});
    s.result(0, Type::b32);
    s.instruction.execute = active_lanes;
}

}  // namespace

void add_warp_opcodes(Opcodes& opcodes) {
    opcodes["shfl"] = define_shfl;
    opcodes["vote"] = define_vote;
    opcodes["match"] = define_match;
    opcodes["bar"] = define_bar;
    opcodes["activemask"] = define_activemask;
}

}  // namespace ptx
