// The machine that runs a launch. Every lane has its own place in the code (independent thread scheduling); lanes of a warp
// that stand at one place run together. Warps and blocks interleave as the schedule says.
//
// What it refuses: lanes of one mask that meet at different instructions, or with different masks, or after one of them has
// ended; a barrier that threads of the block reach at different places, or not at all; accesses outside the memory that the
// launch was given, or misaligned; and, where Settings::check_races, accesses that nothing orders (races.h).
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "instruction.h"
#include "races.h"

namespace ptx {

// Device memory that a launch may touch: `rows` rows of `row_bytes`, `stride` bytes apart.
struct Region {
    std::uint64_t start, row_bytes, stride, rows;
};

struct Settings {
    // 0: blocks one after another, of a warp's lanes those behind run first; 1: the last block and those ahead first; above:
    // blocks and warps take turns and lanes part at random, by this seed.
    int schedule = 0;
    int multiprocessors = 1;
    bool check_races = false, approximate = false;
    unsigned resident_blocks = 6, quantum = 200;  // of a random schedule: blocks at a time, most instructions a turn
    std::vector<Region> regions;                  // empty: nothing is known, all of the process's memory may be touched
};

struct Counters {
    std::uint64_t instructions = 0, divergences = 0, meetings = 0, barriers = 0, fences = 0, tickets = 0;
    std::map<std::string, std::uint64_t> launches;  // of every kernel
};

extern Settings settings;
extern Counters counters;

struct Extent {
    unsigned x = 1, y = 1, z = 1;
    unsigned count() const { return x * y * z; }
};

enum class LaneState : std::uint8_t { running, meeting, at_barrier, done };

struct Warp {
    unsigned index = 0;
    LaneMask alive = 0;
    std::vector<Register> registers;
    std::array<std::int32_t, kLanes> place{};
    std::array<LaneState, kLanes> state{};
    std::vector<std::uint8_t> local;
    std::uint32_t meetings = 0;
    std::array<std::uint32_t, kLanes> fences{};
};

struct Block {
    unsigned x = 0, y = 0, id = 0;
    std::vector<Warp> warps;
    std::vector<std::uint8_t> shared;
    std::uint32_t barriers = 0;
    Shadow shadow;  // of `shared`
};

struct Launch {
    const Kernel& kernel;
    Extent grid, block;
    std::vector<std::uint8_t> parameters;
    unsigned dynamic_shared = 0;

    unsigned shared_bytes() const { return static_cast<unsigned>(kernel.shared_bytes) + dynamic_shared; }
};

class Machine {
 public:
    explicit Machine(Launch launch);
    void run();

    const Launch& launch() const { return launch_; }
    Races* races() { return races_.get(); }
    Shadow& shadow() { return shadow_; }

 private:
    std::unique_ptr<Block> make_block(unsigned id) const;
    Warp make_warp(const Block& block, unsigned index) const;
    std::uint64_t special_value(const std::string& name, const Block& block, unsigned thread) const;
    std::vector<unsigned> block_order();
    bool take_turns(const std::vector<std::unique_ptr<Block>>& resident);
    [[noreturn]] void report_deadlock(const std::vector<std::unique_ptr<Block>>& resident) const;

    bool run_warp(Block& block, Warp& warp, std::uint64_t quantum);
    LaneMask choose_lanes(const Warp& warp);
    void run_lanes(Block& block, Warp& warp, LaneMask lanes, std::uint64_t& quantum);
    LaneMask guarded(const Instruction& in, const Warp& warp, LaneMask lanes) const;
    bool goes_on(const Warp& warp, LaneMask lanes, std::uint64_t quantum, int place);
    bool branch(Step& step, LaneMask lanes, int& place);
    void leave(Block& block, Warp& warp, LaneMask lanes);
    bool wait(Step& step);
    bool try_meet(Block& block, Warp& warp);
    bool has_met(Step& step, int lane, LaneMask mask) const;
    bool try_barrier(Block& block);
    void check_barrier(Block& block, Warp& warp);

    Launch launch_;
    std::mt19937 random_;
    std::unique_ptr<Races> races_;
    Shadow shadow_;  // of global memory
};

// An instruction about to run for lanes that stand at it.
struct Step {
    Machine& machine;
    Block& block;
    Warp& warp;
    const Instruction& in;
    LaneMask lanes;

    Register& result(std::size_t k) { return warp.registers[static_cast<std::size_t>(in.results[k])]; }
    Register& operand(std::size_t k) { return warp.registers[static_cast<std::size_t>(in.operands[k])]; }
    std::uint64_t shared_start() const { return reinterpret_cast<std::uintptr_t>(block.shared.data()); }
    std::uint64_t local_start(int lane) const {
        return reinterpret_cast<std::uintptr_t>(warp.local.data()) +
               static_cast<std::uint64_t>(lane) * static_cast<std::uint64_t>(machine.launch().kernel.local_bytes);
    }
    // " at file:line 'instruction', block (x, y), warp w"
    std::string where() const;
    [[noreturn]] void refuse(const std::string& why) const { fail(why + where()); }
};

}  // namespace ptx
