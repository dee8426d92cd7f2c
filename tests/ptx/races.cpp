#include "races.h"

#include <algorithm>

namespace ptx {

Trace& Shadow::at(std::uint64_t address) {
    const std::uint64_t number = address / kPage;
    if (number != last_number_) {
        std::unique_ptr<Page>& page = pages_[number];
        if (!page) page = std::make_unique<Page>();
        last_ = page.get();
        last_number_ = number;
    }
    return (*last_)[address % kPage];
}

Races::Races(std::uint32_t blocks, std::uint32_t block_threads)
    : block_threads_(block_threads),
      fences_(std::size_t{blocks} * block_threads, 0),
      released_(fences_),
      has_ticket_(blocks, false) {}

void Races::note_ticket(std::uint32_t block) {
    const auto first = static_cast<std::ptrdiff_t>(block) * block_threads_;
    has_ticket_[block] = true;
    std::copy_n(fences_.begin() + first, block_threads_, released_.begin() + first);
}

bool Races::is_ordered(const Visit& visit, std::uint32_t other, std::uint32_t barrier, std::uint32_t meeting) const {
    if (visit.barrier > barrier) return true;
    const std::uint32_t own_warp = (visit.thread - 1) % block_threads_ / kLanes,
                        warp = (other - 1) % block_threads_ / kLanes;
    return warp == own_warp && visit.meeting > meeting;
}

const char* Races::conflict_between_blocks(const Visit& visit, const Trace& trace) const {
    if (visit.writes && !visit.atomic) return "two blocks write one place";
    if (!has_released(trace.writer, trace.writer_fence)) return "no fence between another block's write and its ticket";
    if (visit.atomic || visit.writes) return nullptr;
    if (!has_acquired(visit)) return "no fence between the ticket and a read of another block's write";
    if (visit.cache == Cache::read_only) return "ld.global.nc of what another block wrote";
    if (visit.cache == Cache::every_level) return "a load through the first-level cache of what another block wrote";
    return nullptr;
}

const char* Races::conflict_with_writer(const Visit& visit, const Trace& trace) const {
    const bool by_read_only_load = !visit.writes && visit.cache == Cache::read_only;
    if (trace.writer == 0) return nullptr;
    if (trace.writer != visit.thread) {
        if (visit.atomic && trace.by_atomic) return nullptr;
        if (block_of(trace.writer) != visit.block) return conflict_between_blocks(visit, trace);
        if (!by_read_only_load && !is_ordered(visit, trace.writer, trace.writer_barrier, trace.writer_meeting))
            return "nothing orders it after a write of the same block";
    }
    return by_read_only_load ? "ld.global.nc of what this launch wrote" : nullptr;
}

const char* Races::conflict_with_reader(const Visit& visit, const Trace& trace) const {
    if (!visit.writes || visit.atomic || visit.cache != Cache::every_level) return nullptr;
    if (trace.reader == 0 || trace.reader == visit.thread) return nullptr;
    if (block_of(trace.reader) != visit.block) {
        const bool ordered = has_released(trace.reader, trace.reader_fence) && has_acquired(visit);
        return ordered ? nullptr : "a write of what another block has read";
    }
    if (is_ordered(visit, trace.reader, trace.reader_barrier, trace.reader_meeting)) return nullptr;
    return "nothing orders the write after a read of the same block";
}

const char* Races::conflict(const Visit& visit, const Trace& trace) const {
    const char* const why = conflict_with_writer(visit, trace);
    return why != nullptr ? why : conflict_with_reader(visit, trace);
}

void Races::record(const Visit& visit, Trace& trace) {
    if (visit.writes) {
        trace.writer = visit.thread;
        trace.writer_barrier = visit.barrier;
        trace.writer_meeting = visit.meeting;
        trace.writer_fence = visit.fence;
        trace.by_atomic = visit.atomic;
    } else {
        trace.reader = visit.thread;
        trace.reader_barrier = visit.barrier;
        trace.reader_meeting = visit.meeting;
        trace.reader_fence = visit.fence;
    }
}

}  // namespace ptx
