// Which accesses of a launch nothing orders: within a block, by barriers and warp functions; between blocks, by the fences
// around the ticket that a block draws (csrc/core/split_rows.cuh), and loads that no stale cache can serve.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <unordered_map>
#include <vector>

#include "instruction.h"

namespace ptx {

// Who wrote and who read a byte last, and when. Threads are counted from 1 over the whole grid; 0: nobody.
struct Trace {
    std::uint32_t writer = 0, writer_barrier = 0, writer_meeting = 0, writer_fence = 0;
    std::uint32_t reader = 0, reader_barrier = 0, reader_meeting = 0, reader_fence = 0;
    bool by_atomic = false;
};

class Shadow {
 public:
    Trace& at(std::uint64_t address);

 private:
    static constexpr std::uint64_t kPage = 1024;
    using Page = std::array<Trace, kPage>;
    std::unordered_map<std::uint64_t, std::unique_ptr<Page>> pages_;
    std::uint64_t last_number_ = ~std::uint64_t{0};
    Page* last_ = nullptr;
};

// An access by one lane: how many barriers its block, meetings its warp and fences itself has passed.
struct Visit {
    std::uint32_t thread, block, barrier, meeting, fence;
    bool writes, atomic;
    Cache cache;
};

class Races {
 public:
    Races(std::uint32_t blocks, std::uint32_t block_threads);

    // Counts from 1.
    std::uint32_t thread(std::uint32_t block, std::uint32_t index) const { return 1 + block * block_threads_ + index; }
    void note_fence(std::uint32_t thread, std::uint32_t count) { fences_[thread - 1] = count; }
    // What the block's threads have fenced by now is released.
    void note_ticket(std::uint32_t block);

    // Why the access must not be; null where it may.
    const char* conflict(const Visit& visit, const Trace& trace) const;
    static void record(const Visit& visit, Trace& trace);

 private:
    std::uint32_t block_of(std::uint32_t thread) const { return (thread - 1) / block_threads_; }
    bool is_ordered(const Visit& visit, std::uint32_t other, std::uint32_t barrier, std::uint32_t meeting) const;
    const char* conflict_with_writer(const Visit& visit, const Trace& trace) const;
    const char* conflict_between_blocks(const Visit& visit, const Trace& trace) const;
    const char* conflict_with_reader(const Visit& visit, const Trace& trace) const;
    // Whether a fence came between what the thread did at its `fence` and its block's ticket.
    bool has_released(std::uint32_t thread, std::uint32_t fence) const { return released_[thread - 1] > fence; }
    // Whether the visitor has passed a fence since its block's ticket.
    bool has_acquired(const Visit& visit) const {
        return has_ticket_[visit.block] && visit.fence > released_[visit.thread - 1];
    }

    std::uint32_t block_threads_;
    std::vector<std::uint32_t> fences_, released_;  // of every thread, now and at its block's last ticket
    std::vector<bool> has_ticket_;                  // of every block
};

}  // namespace ptx
