#include "machine.h"

#include <algorithm>
#include <numeric>

#include "execute.h"

namespace ptx {

Settings settings;
Counters counters;

namespace {

constexpr std::uint64_t kNotSet = 0xDEADBEEFCAFEF00D;  // what a register holds before it is written
constexpr std::uint64_t kLongTurn = 1 << 20;

LaneMask lane_bit(int lane) {
    return LaneMask{1} << lane;
}

LaneMask lanes_in(const Warp& warp, LaneState state) {
    LaneMask lanes = 0;
    for (int lane = 0; lane < kLanes; ++lane)
        if (warp.state[lane] == state) lanes |= lane_bit(lane);
    return lanes;
}

void set_places(Warp& warp, LaneMask lanes, int place) {
    each_lane(lanes, [&](int lane) { warp.place[lane] = place; });
}
void set_state(Warp& warp, LaneMask lanes, LaneState state) {
    each_lane(lanes, [&](int lane) { warp.state[lane] = state; });
}
// They waited at an instruction, and go on behind it.
void release(Warp& warp, LaneMask lanes) {
    each_lane(lanes, [&](int lane) { ++warp.place[lane]; });
    set_state(warp, lanes, LaneState::running);
}

unsigned along(const Extent& extent, char axis) {
    return axis == 'x' ? extent.x : axis == 'y' ? extent.y : extent.z;
}

}  // namespace

std::string Step::where() const {
    return " at " + machine.launch().kernel.file + ":" + std::to_string(in.line) + " '" + in.text + "', block (" +
           std::to_string(block.x) + ", " + std::to_string(block.y) + "), warp " + std::to_string(warp.index);
}

Machine::Machine(Launch launch) : launch_(std::move(launch)), random_(static_cast<unsigned>(settings.schedule) * 7919 + 13) {
    if (settings.check_races) races_ = std::make_unique<Races>(launch_.grid.count(), launch_.block.count());
}

// ---- blocks and warps ----

std::uint64_t Machine::special_value(const std::string& name, const Block& block, unsigned thread) const {
    const Extent& size = launch_.block;
    const Extent in_block{thread % size.x, thread / size.x % size.y, thread / (size.x * size.y)};
    const char axis = name.back();
    if (name == "%laneid") return thread % kLanes;
    if (name.rfind("%tid.", 0) == 0) return along(in_block, axis);
    if (name.rfind("%ntid.", 0) == 0) return along(size, axis);
    if (name.rfind("%ctaid.", 0) == 0) return along({block.x, block.y, 0}, axis);
    if (name.rfind("%nctaid.", 0) == 0) return along(launch_.grid, axis);
    fail("register " + name + " is not known");
}

Warp Machine::make_warp(const Block& block, unsigned index) const {
    const Kernel& kernel = launch_.kernel;
    Warp warp;
    warp.index = index;
    Register unset;
    unset.fill(kNotSet);
    warp.registers.assign(static_cast<std::size_t>(kernel.registers), unset);
    for (const auto& [number, bits] : kernel.constants) warp.registers[static_cast<std::size_t>(number)].fill(bits);
    for (const auto& [number, name] : kernel.specials)
        for (unsigned lane = 0; lane < kLanes; ++lane)
            warp.registers[static_cast<std::size_t>(number)][lane] = special_value(name, block, kLanes * index + lane);
    warp.local.assign(static_cast<std::size_t>(kernel.local_bytes) * kLanes + 16, 0xFF);
    const unsigned threads = std::min(launch_.block.count() - kLanes * index, static_cast<unsigned>(kLanes));
    warp.alive = threads == kLanes ? kAllLanes : lane_bit(static_cast<int>(threads)) - 1;
    warp.state.fill(LaneState::done);
    set_state(warp, warp.alive, LaneState::running);
    return warp;
}

std::unique_ptr<Block> Machine::make_block(unsigned id) const {
    auto block = std::make_unique<Block>();
    block->id = id;
    block->x = id % launch_.grid.x;
    block->y = id / launch_.grid.x % launch_.grid.y;
    block->shared.assign(launch_.shared_bytes() + 16, 0xFF);
    for (unsigned index = 0; index < (launch_.block.count() + kLanes - 1) / kLanes; ++index)
        block->warps.push_back(make_warp(*block, index));
    return block;
}

std::vector<unsigned> Machine::block_order() {
    std::vector<unsigned> order(launch_.grid.count());
    std::iota(order.begin(), order.end(), 0u);
    if (settings.schedule == 1) std::reverse(order.begin(), order.end());
    if (settings.schedule > 1) std::shuffle(order.begin(), order.end(), random_);
    return order;
}

// Lets every warp run, or warps at random; whether any of them could.
bool Machine::take_turns(const std::vector<std::unique_ptr<Block>>& resident) {
    bool moved = false;
    if (settings.schedule > 1) {
        for (std::size_t turn = 0; turn < 4 * resident.size(); ++turn) {
            Block& block = *resident[random_() % resident.size()];
            moved |= run_warp(block, block.warps[random_() % block.warps.size()], 1 + random_() % settings.quantum);
        }
        if (moved) return true;
    }
    for (const auto& block : resident) {
        for (std::size_t k = 0; k < block->warps.size(); ++k) {
            const std::size_t index = settings.schedule == 1 ? block->warps.size() - 1 - k : k;
            moved |= run_warp(*block, block->warps[index], settings.schedule > 1 ? settings.quantum : kLongTurn);
        }
    }
    return moved;
}

void Machine::report_deadlock(const std::vector<std::unique_ptr<Block>>& resident) const {
    std::string waiting;
    for (const auto& block : resident)
        for (const Warp& warp : block->warps)
            for (int lane = 0; lane < kLanes && waiting.size() < 400; ++lane)
                if (warp.state[lane] != LaneState::done)
                    waiting += " block " + std::to_string(block->id) + " warp " + std::to_string(warp.index) + " lane " +
                               std::to_string(lane) + " at '" + launch_.kernel.code[warp.place[lane]].text + "'";
    fail("threads wait for each other:" + waiting);
}

void Machine::run() {
    const std::vector<unsigned> order = block_order();
    const std::size_t most = settings.schedule > 1 ? settings.resident_blocks : 1;
    std::vector<std::unique_ptr<Block>> resident;
    const auto is_done = [](const std::unique_ptr<Block>& block) {
        return std::all_of(block->warps.begin(), block->warps.end(), [](const Warp& warp) { return warp.alive == 0; });
    };
    for (std::size_t next = 0; next < order.size() || !resident.empty();) {
        while (resident.size() < most && next < order.size()) resident.push_back(make_block(order[next++]));
        if (!take_turns(resident)) report_deadlock(resident);
        resident.erase(std::remove_if(resident.begin(), resident.end(), is_done), resident.end());
    }
}

// ---- one warp ----

bool Machine::run_warp(Block& block, Warp& warp, std::uint64_t quantum) {
    bool moved = false;
    while (quantum > 0) {
        const LaneMask lanes = choose_lanes(warp);
        if (lanes == 0) break;
        moved = true;
        run_lanes(block, warp, lanes, quantum);
    }
    return moved;
}

// Lanes that stand at one place: the last place, the first one, or one at random.
LaneMask Machine::choose_lanes(const Warp& warp) {
    const LaneMask running = lanes_in(warp, LaneState::running);
    if (running == 0) return 0;
    int place = -1;
    std::uint32_t skipped = settings.schedule > 1 ? random_() % static_cast<unsigned>(__builtin_popcount(running)) : 0;
    each_lane(running, [&](int lane) {
        if (settings.schedule == 0 && (place < 0 || warp.place[lane] < place)) place = warp.place[lane];
        if (settings.schedule == 1) place = std::max(place, warp.place[lane]);
        if (settings.schedule > 1 && skipped-- == 0) place = warp.place[lane];
    });
    LaneMask lanes = 0;
    each_lane(running, [&](int lane) {
        if (warp.place[lane] == place) lanes |= lane_bit(lane);
    });
    if (settings.schedule > 1 && random_() % 4 == 0) {  // nothing holds them together
        const LaneMask some = lanes & static_cast<LaneMask>(random_());
        if (some != 0) return some;
    }
    return lanes;
}

LaneMask Machine::guarded(const Instruction& in, const Warp& warp, LaneMask lanes) const {
    if (in.guard < 0) return lanes;
    const Register& guard = warp.registers[static_cast<std::size_t>(in.guard)];
    LaneMask holds = 0;
    each_lane(lanes, [&](int lane) {
        if (value_of<bool>(guard[lane]) != in.guard_negated) holds |= lane_bit(lane);
    });
    return holds;
}

// Whether the lanes run on as a group: a whole warp does; others may meet those that stand at the target of a branch.
bool Machine::goes_on(const Warp& warp, LaneMask lanes, std::uint64_t quantum, int place) {
    if (quantum == 0) return false;
    if (lanes == warp.alive && settings.schedule <= 1) return true;
    if (launch_.kernel.code[static_cast<std::size_t>(place)].is_target) return false;
    return settings.schedule <= 1 || random_() % 8 != 0;
}

void Machine::run_lanes(Block& block, Warp& warp, LaneMask lanes, std::uint64_t& quantum) {
    int place = warp.place[__builtin_ctz(lanes)];
    do {
        const Instruction& in = launch_.kernel.code[static_cast<std::size_t>(place)];
        Step step{*this, block, warp, in, guarded(in, warp, lanes)};
        ++counters.instructions;
        --quantum;
        if (in.flow == Flow::next) {
            if (step.lanes != 0) in.execute(step);
            ++place;
            continue;
        }
        if (in.flow == Flow::branch) {
            if (!branch(step, lanes, place)) return;
            continue;
        }
        if (step.lanes != lanes) step.refuse("a guard of what lanes do together");
        if (in.flow == Flow::leave) return leave(block, warp, lanes);
        set_places(warp, lanes, place);
        const bool all_went_on = wait(step) && lanes == warp.alive;
        if (!all_went_on || in.flow == Flow::barrier) return;
        ++place;
    } while (goes_on(warp, lanes, quantum, place));
    set_places(warp, lanes, place);
}

// Whether the lanes stay together.
bool Machine::branch(Step& step, LaneMask lanes, int& place) {
    const LaneMask others = lanes & ~step.lanes;
    if (step.lanes == 0 || others == 0) {
        place = others == 0 ? step.in.target : place + 1;
        return true;
    }
    if (step.in.uniform) step.refuse("a branch that was to be uniform");
    ++counters.divergences;
    set_places(step.warp, step.lanes, step.in.target);
    set_places(step.warp, others, place + 1);
    return false;
}

void Machine::leave(Block& block, Warp& warp, LaneMask lanes) {
    set_state(warp, lanes, LaneState::done);
    warp.alive &= ~lanes;
    try_meet(block, warp);
    try_barrier(block);
}

// ---- what lanes wait for ----

// Whether the lanes had not to wait, or no longer have to.
bool Machine::wait(Step& step) {
    const bool of_block = step.in.flow == Flow::barrier;
    set_state(step.warp, step.lanes, of_block ? LaneState::at_barrier : LaneState::meeting);
    return of_block ? try_barrier(step.block) : try_meet(step.block, step.warp);
}

// Whether all lanes of the mask have come; refuses what the instruction leaves undefined.
bool Machine::has_met(Step& step, int lane, LaneMask mask) const {
    const Warp& warp = step.warp;
    if ((mask & lane_bit(lane)) == 0) step.refuse("a mask that leaves its own lane out");
    if ((mask & ~warp.alive) != 0) step.refuse("a lane of the mask has ended");
    if ((mask & ~lanes_in(warp, LaneState::meeting)) != 0) return false;
    each_lane(mask, [&](int other) {
        const Instruction& in = launch_.kernel.code[static_cast<std::size_t>(warp.place[other])];
        if (&in != &step.in) step.refuse("lanes of one mask meet at different instructions, one at '" + in.text + "'");
        if (value_of<LaneMask>(step.operand(in.mask_operand)[other]) != mask)
            step.refuse("lanes that meet have different masks");
    });
    return true;
}

bool Machine::try_meet(Block& block, Warp& warp) {
    bool any = false;
    for (int lane = 0; lane < kLanes; ++lane) {
        if (warp.state[lane] != LaneState::meeting) continue;
        const Instruction& in = launch_.kernel.code[static_cast<std::size_t>(warp.place[lane])];
        Step step{*this, block, warp, in, 0};
        step.lanes = value_of<LaneMask>(step.operand(in.mask_operand)[lane]);
        if (!has_met(step, lane, step.lanes)) continue;
        in.execute(step);
        ++counters.meetings;
        release(warp, step.lanes);
        any = true;
    }
    return any;
}

void Machine::check_barrier(Block& block, Warp& warp) {
    const LaneMask waiting = lanes_in(warp, LaneState::at_barrier);
    const unsigned threads = std::min(launch_.block.count() - kLanes * warp.index, static_cast<unsigned>(kLanes));
    if (waiting == 0) fail("a barrier after a warp of the block has ended, in " + launch_.kernel.name);
    const int place = warp.place[__builtin_ctz(waiting)];
    Step step{*this, block, warp, launch_.kernel.code[static_cast<std::size_t>(place)], waiting};
    each_lane(waiting, [&](int lane) {
        if (warp.place[lane] != place) step.refuse("lanes of a warp wait at different barriers");
    });
    if (static_cast<unsigned>(__builtin_popcount(waiting)) != threads)
        step.refuse("a barrier after a thread of the block has ended");
}

bool Machine::try_barrier(Block& block) {
    const auto is_at = [](const Warp& warp, LaneState state) { return lanes_in(warp, state) != 0; };
    bool any = false;
    for (const Warp& warp : block.warps) {
        if (is_at(warp, LaneState::running) || is_at(warp, LaneState::meeting)) return false;
        any |= is_at(warp, LaneState::at_barrier);
    }
    if (!any) return false;
    for (Warp& warp : block.warps) check_barrier(block, warp);
    for (Warp& warp : block.warps) release(warp, lanes_in(warp, LaneState::at_barrier));
    ++block.barriers;
    ++counters.barriers;
    return true;
}

}  // namespace ptx
