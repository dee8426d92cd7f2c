// Loads, stores, atomics and fences: where an address lies, whether it may be touched, and in which order.
#include <algorithm>
#include <array>

#include "execute.h"

namespace ptx {
namespace {

using Bytes = std::array<std::uint8_t, 32>;

struct Place {
    std::uint8_t* memory;
    std::uint64_t address;  // what has to be aligned: in shared and local memory, from its start
    Space space;
};

Place within(Step& step, Space space, std::uint8_t* start, std::uint64_t offset, std::uint64_t size, int bytes) {
    if (offset > size || size - offset < static_cast<std::uint64_t>(bytes)) {
        const char* const name = space == Space::shared ? "shared" : space == Space::local ? "local" : "parameter";
        step.refuse(std::string("an access outside ") + name + " memory");
    }
    return {start + offset, offset, space};
}

Place shared_place(Step& step, std::uint64_t offset, int bytes) {
    return within(step, Space::shared, step.block.shared.data(), offset, step.machine.launch().shared_bytes(), bytes);
}
Place local_place(Step& step, int lane, std::uint64_t offset, int bytes) {
    auto* const start = reinterpret_cast<std::uint8_t*>(step.local_start(lane));
    return within(step, Space::local, start, offset, static_cast<std::uint64_t>(step.machine.launch().kernel.local_bytes),
                  bytes);
}

bool contains(const Region& region, std::uint64_t address, std::uint64_t bytes) {
    if (address < region.start) return false;
    std::uint64_t offset = address - region.start;
    if (region.rows > 1 && region.stride > 0) {
        if (offset / region.stride >= region.rows) return false;
        offset %= region.stride;
    }
    return offset <= region.row_bytes && region.row_bytes - offset >= bytes;
}

Place global_place(Step& step, std::uint64_t address, int bytes) {
    const auto holds = [&](const Region& region) { return contains(region, address, static_cast<std::uint64_t>(bytes)); };
    const std::vector<Region>& regions = settings.regions;
    if (address < 4096) step.refuse("an access by a null pointer");
    if (!regions.empty() && std::none_of(regions.begin(), regions.end(), holds))
        step.refuse("an access outside the memory that the launch was given");
    return {reinterpret_cast<std::uint8_t*>(address), address, Space::global};
}

Place generic_place(Step& step, int lane, std::uint64_t address, int bytes) {
    const std::uint64_t of_shared = address - step.shared_start();
    if (of_shared < step.block.shared.size()) return shared_place(step, of_shared, bytes);
    const std::uint64_t of_local = address - step.local_start(lane);
    if (of_local < static_cast<std::uint64_t>(step.machine.launch().kernel.local_bytes))
        return local_place(step, lane, of_local, bytes);
    return global_place(step, address, bytes);
}

Place place_of(Step& step, int lane, int bytes) {
    const std::uint64_t address = step.operand(0)[lane] + static_cast<std::uint64_t>(step.in.offset);
    switch (step.in.space) {
        case Space::shared:
            return shared_place(step, static_cast<std::uint32_t>(address), bytes);
        case Space::local:
            return local_place(step, lane, address, bytes);
        case Space::parameter: {
            const std::vector<std::uint8_t>& parameters = step.machine.launch().parameters;
            return within(step, Space::parameter, const_cast<std::uint8_t*>(parameters.data()), address, parameters.size(),
                          bytes);
        }
        case Space::global:
            return global_place(step, address, bytes);
        default:
            return generic_place(step, lane, address, bytes);
    }
}

// `stored`: the bytes that a store is about to write; writing what is there already is no conflict.
void check_order(Step& step, int lane, const Place& place, int bytes, const std::uint8_t* stored) {
    Races& races = *step.machine.races();
    Shadow& shadow = place.space == Space::shared ? step.block.shadow : step.machine.shadow();
    const auto index = static_cast<unsigned>(lane);
    const Visit visit{races.thread(step.block.id, step.warp.index * kLanes + index),
                      step.block.id,
                      step.block.barriers,
                      step.warp.meetings,
                      step.warp.fences[index],
                      step.in.writes,
                      step.in.atomic,
                      step.in.cache};
    for (int k = 0; k < bytes; ++k) {
        Trace& trace = shadow.at(place.address + static_cast<std::uint64_t>(k));
        const char* const why = races.conflict(visit, trace);
        const bool changes_nothing = stored != nullptr && stored[k] == place.memory[k];
        if (why != nullptr && !changes_nothing) step.refuse(std::string("a race: ") + why);
        Races::record(visit, trace);
    }
}

std::uint8_t* access(Step& step, int lane, int bytes, const std::uint8_t* stored = nullptr) {
    const Place place = place_of(step, lane, bytes);
    if (place.address % static_cast<std::uint64_t>(bytes) != 0)
        step.refuse("a misaligned access of " + std::to_string(bytes) + " bytes");
    const bool of_others = place.space == Space::global || place.space == Space::shared;
    if (of_others && step.machine.races() != nullptr) check_order(step, lane, place, bytes, stored);
    return place.memory;
}

std::uint64_t extended(std::uint64_t bits, Type type) {
    if (!is_signed(type)) return bits;
    const int above = 64 - 8 * size_of(type);
    return static_cast<std::uint64_t>(static_cast<std::int64_t>(bits << above) >> above);
}

void load(Step& step) {
    const int size = size_of(step.in.type), count = step.in.count;
    each_lane(step.lanes, [&](int lane) {
        Bytes bytes;
        std::memcpy(bytes.data(), access(step, lane, size * count), static_cast<std::size_t>(size * count));
        for (int k = 0; k < count; ++k) {
            std::uint64_t bits = 0;
            std::memcpy(&bits, bytes.data() + k * size, static_cast<std::size_t>(size));
            step.result(k)[lane] = extended(bits, step.in.type);
        }
    });
}

void store(Step& step) {
    const int size = size_of(step.in.type), count = step.in.count;
    each_lane(step.lanes, [&](int lane) {
        Bytes bytes;
        for (int k = 0; k < count; ++k)
            std::memcpy(bytes.data() + k * size, &step.operand(1 + k)[lane], static_cast<std::size_t>(size));
        std::memcpy(access(step, lane, size * count, bytes.data()), bytes.data(), static_cast<std::size_t>(size * count));
    });
}

// ---- atomics ----

enum Atomic : std::uint8_t { kIncrement, kCompareAndSwap, kAdd, kMax, kMin, kExchange, kOr };
const std::map<std::string, Atomic> kAtomics = {{"inc", kIncrement}, {"cas", kCompareAndSwap}, {"add", kAdd}, {"max", kMax},
                                                {"min", kMin},       {"exch", kExchange},      {"or", kOr}};

template <class T>
T changed(int operation, T old, T x, T y) {
    switch (operation) {
        case kIncrement:
            return old >= x ? T(0) : static_cast<T>(old + T(1));
        case kCompareAndSwap:
            return old == x ? y : old;
        case kAdd:
            return static_cast<T>(old + x);
        case kMax:
            return std::max(old, x);
        case kMin:
            return std::min(old, x);
        case kExchange:
            return x;
        default:
            if constexpr (kIsInteger<T>) return static_cast<T>(old | x);
            return old;
    }
}

template <class T>
void atomic(Step& step) {
    const bool is_ticket = step.in.mode == kIncrement;
    each_lane(step.lanes, [&](int lane) {
        std::uint8_t* const memory = access(step, lane, sizeof(T));
        T old;
        std::memcpy(&old, memory, sizeof old);
        const T x = value_of<T>(step.operand(1)[lane]), y = value_of<T>(step.operand(2)[lane]);
        const T made = changed(step.in.mode, old, x, y);
        std::memcpy(memory, &made, sizeof made);
        step.result(0)[lane] = bits_of(old);
        if (is_ticket) ++counters.tickets;
    });
    if (is_ticket && step.machine.races() != nullptr) step.machine.races()->note_ticket(step.block.id);
}

void fence(Step& step) {
    ++counters.fences;
    each_lane(step.lanes, [&](int lane) {
        const std::uint32_t count = ++step.warp.fences[static_cast<unsigned>(lane)];
        Races* const races = step.machine.races();
        if (races != nullptr)
            races->note_fence(races->thread(step.block.id, step.warp.index * kLanes + static_cast<unsigned>(lane)), count);
    });
}

// Orders nothing beyond the block, where a barrier does.
void block_fence(Step&) {}

// ---- the opcodes ----

Space space_of(const Statement& s) {
    return s.has("global")   ? Space::global
           : s.has("shared") ? Space::shared
           : s.has("local")  ? Space::local
           : s.has("param")  ? Space::parameter
                             : Space::generic;
}

// "[variable]" of a call, a register here; -1: another address.
int call_variable(const Statement& s, std::size_t k) {
    const std::string address = s.operands.at(k).substr(1, s.operands[k].size() - 2);
    if (address[0] == '%' || !s.has("param")) return -1;
    const std::vector<std::string> parts = split(address, '+');
    const int variable = s.parser.call_variable(trimmed(parts[0]));
    if (variable >= 0 && parts.size() > 1 && std::stoll(parts[1]) != 0) s.refuse("a part of a call's variable");
    return variable;
}

void move_register(Step& step) {
    each_lane(step.lanes, [&](int lane) { step.result(0)[lane] = step.operand(0)[lane]; });
}

void define_transfer(Statement& s, bool writes) {
    s.allow({"global", "shared", "local", "param", "nc", "cg", "volatile", "v2", "v4"});
    Instruction& in = s.instruction;
    const std::size_t address = writes ? 0 : 1, data = writes ? 1 : 0;
    if (const int variable = call_variable(s, address); variable >= 0) {
        (writes ? in.results[0] : in.operands[0]) = variable;
        writes ? s.next_operand(s.operands.at(data), in.type) : s.next_result(s.operands.at(data), in.type);
        in.execute = move_register;
        return;
    }
    in.space = space_of(s);
    in.writes = writes;
    in.cache = s.has("nc")         ? Cache::read_only
               : s.has("cg")       ? Cache::second_level
               : s.has("volatile") ? Cache::uncached
                                   : Cache::every_level;
    s.address(address);
    for (const std::string& element : s.elements(data))
        writes ? s.next_operand(element, in.type) : s.next_result(element, in.type);
    in.count = static_cast<std::uint8_t>(s.elements(data).size());
    if (in.count != (s.has("v2") ? 2 : s.has("v4") ? 4 : 1)) s.refuse("this number of elements");
    in.execute = writes ? store : load;
}
void define_ld(Statement& s) {
    define_transfer(s, false);
}
void define_st(Statement& s) {
    define_transfer(s, true);
}

void define_atom(Statement& s) {
    s.allow({"global", "shared", "inc", "cas", "add", "max", "min", "exch", "or", "relaxed", "gpu"});
    Instruction& in = s.instruction;
    in.space = space_of(s);
    in.writes = in.atomic = true;
    for (const auto& [name, operation] : kAtomics)
        if (s.has(name)) in.mode = operation;
    s.result(0, in.type);
    s.address(1);
    for (std::size_t k = 2; k < s.operands.size(); ++k) s.operand(k, in.type);
    set_execute(s, for_type(in.type, [](auto tag) -> Execute { return atomic<typename decltype(tag)::type>; }));
}

void define_fence(Statement& s) {
    s.allow({"gl", "gpu", "sys", "cta", "sc", "acq_rel"});
    s.instruction.execute = s.has("gl") || s.has("gpu") || s.has("sys") ? fence : block_fence;
}

}  // namespace

void add_memory_opcodes(Opcodes& opcodes) {
    opcodes["ld"] = define_ld;
    opcodes["st"] = define_st;
    opcodes["atom"] = define_atom;
    opcodes["membar"] = opcodes["fence"] = define_fence;
}

}  // namespace ptx
