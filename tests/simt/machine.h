// The machine behind the stand-in for <cuda_runtime.h>: fibers, blocks, barriers, exchanges between the lanes of a warp.
#pragma once
#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <numeric>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/common_interface_defs.h>
#endif

struct dim3 {
    unsigned x, y, z;
    constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};
enum cudaError_t { cudaSuccess = 0, cudaErrorInvalidConfiguration = 9, cudaErrorInvalidDevice = 101 };

namespace simt {

constexpr unsigned kWarp = 32, kDevices = 2;
constexpr std::size_t kStack = 1 << 17;
enum class Wait { none, block, warp, done };

struct Fiber {
    ucontext_t context;
    std::unique_ptr<char[]> stack{new char[kStack]};
    dim3 thread;
    unsigned index = 0;
    Wait wait = Wait::none;
};

// What the lanes of one warp hand each other: `given[l]` is lane l's value, `from[l]` the lane it reads (kBallot, kMatch:
// see below).
struct Warp {
    static constexpr int kBallot = -1, kMatch = -2, kSync = -3;
    std::uint32_t arrived = 0, mask[kWarp] = {};
    std::uint64_t given[kWarp] = {}, result[kWarp] = {};
    int from[kWarp] = {};
};

struct Machine {
    ucontext_t scheduler;
    std::vector<std::unique_ptr<Fiber>> fibers;
    std::vector<Warp> warps;
    std::map<const void*, std::unique_ptr<unsigned char[]>> shared;  // one entry for each SB_SHARED of this block
    std::unique_ptr<unsigned char[]> dynamic;
    std::function<void()> body;
    std::string failure;
    dim3 grid, block, block_index;
    Fiber* here = nullptr;
    unsigned threads = 0, at_barrier = 0, finished = 0;
    int schedule = 0, device = 0, last_device = -1, multiprocessors = 1;
    bool fenced = false;  // this block has called __threadfence since its last ticket
    std::uint64_t launches = 0;
    void* last_stream = nullptr;
    cudaError_t error = cudaSuccess;
};
inline Machine& machine() {
    static Machine m;
    return m;
}

inline void switch_context(ucontext_t* from, ucontext_t* to, const void* stack, std::size_t size, bool leaving = false) {
#ifdef __SANITIZE_ADDRESS__
    void* fake = nullptr;
    __sanitizer_start_switch_fiber(leaving ? nullptr : &fake, stack, size);
    swapcontext(from, to);
    __sanitizer_finish_switch_fiber(fake, nullptr, nullptr);
#else
    (void)stack, (void)size, (void)leaving;
    swapcontext(from, to);
#endif
}
#ifdef __SANITIZE_ADDRESS__
inline const void* scheduler_stack = nullptr;
inline std::size_t scheduler_size = 0;
#endif

inline void leave(Wait why) {
    Machine& m = machine();
    Fiber* self = m.here;
    self->wait = why;
#ifdef __SANITIZE_ADDRESS__
    switch_context(&self->context, &m.scheduler, scheduler_stack, scheduler_size, why == Wait::done);
#else
    switch_context(&self->context, &m.scheduler, nullptr, 0);
#endif
}

inline void fail(const std::string& sentence) {
    Machine& m = machine();
    if (m.failure.empty()) m.failure = sentence;
    leave(Wait::done);
}

inline void fiber_main() {
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_finish_switch_fiber(nullptr, &scheduler_stack, &scheduler_size);
#endif
    Machine& m = machine();
    try {
        m.body();
    } catch (const std::exception& e) {
        m.failure = e.what();
    }
    ++m.finished;
    leave(Wait::done);
}

inline void block_barrier() {
    Machine& m = machine();
    if (m.finished) fail("a thread reached __syncthreads after another thread of its block had returned");
    if (++m.at_barrier < m.threads) return leave(Wait::block);
    m.at_barrier = 0;
    for (unsigned t = 0; t < m.threads; ++t)
        if (m.fibers[t]->wait == Wait::block) m.fibers[t]->wait = Wait::none;
}

// Waits for every lane of `mask`; the last to come serves them all.
inline std::uint64_t exchange(std::uint32_t mask, std::uint64_t value, int from) {
    Machine& m = machine();
    const unsigned lane = m.here->index % kWarp, first = m.here->index - lane;
    Warp& w = m.warps[m.here->index / kWarp];
    if (!(mask >> lane & 1)) fail("a lane called a warp function with a mask that leaves it out");
    w.given[lane] = value, w.from[lane] = from, w.mask[lane] = mask, w.arrived |= 1u << lane;
    if ((w.arrived & mask) != mask) {
        leave(Wait::warp);
        return w.result[lane];
    }
    std::uint64_t ballot = 0;
    for (unsigned l = 0; l < kWarp; ++l) ballot |= std::uint64_t(mask >> l & 1 && w.given[l]) << l;
    for (unsigned l = 0; l < kWarp; ++l) {
        if (!(mask >> l & 1)) continue;
        if (w.mask[l] != mask || (w.from[l] < 0) != (from < 0) || (from < 0 && w.from[l] != from))
            fail("lanes of one warp met in different warp functions or with different masks");
        if (w.from[l] == Warp::kBallot) {
            w.result[l] = ballot;
        } else if (w.from[l] == Warp::kMatch) {
            w.result[l] = 0;
            for (unsigned o = 0; o < kWarp; ++o)
                w.result[l] |= std::uint64_t(mask >> o & 1 && w.given[o] == w.given[l]) << o;
        } else if (w.from[l] >= 0) {
            w.result[l] = w.given[w.from[l]];
        }
        m.fibers[first + l]->wait = Wait::none;
    }
    w.arrived &= ~mask;
    return w.result[lane];
}

inline void run_block(const std::vector<unsigned>& order) {
    Machine& m = machine();
    m.shared.clear();
    m.fenced = false;
    m.warps.assign((m.threads + kWarp - 1) / kWarp, Warp{});
    m.at_barrier = m.finished = 0;
    for (unsigned t = 0; t < m.threads; ++t) {
        Fiber& f = *m.fibers[t];
        f.index = t, f.wait = Wait::none;
        f.thread = dim3(t % m.block.x, t / m.block.x % m.block.y, t / (m.block.x * m.block.y));
        getcontext(&f.context);
        f.context.uc_stack.ss_sp = f.stack.get(), f.context.uc_stack.ss_size = kStack, f.context.uc_link = nullptr;
        makecontext(&f.context, fiber_main, 0);
    }
    while (m.finished < m.threads && m.failure.empty()) {
        bool moved = false;
        for (unsigned t : order) {
            Fiber& f = *m.fibers[t];
            if (f.wait != Wait::none) continue;
            moved = true, m.here = &f;
            switch_context(&m.scheduler, &f.context, f.stack.get(), kStack);
            if (!m.failure.empty()) break;
        }
        if (!moved)
            m.failure = "the threads of a block wait for each other: a barrier or warp function is not reached by all";
    }
}

inline std::vector<unsigned> scheduled(unsigned count) {
    std::vector<unsigned> order(count);
    std::iota(order.begin(), order.end(), 0u);
    const int schedule = machine().schedule;
    if (schedule == 1) std::reverse(order.begin(), order.end());
    if (schedule > 1) std::shuffle(order.begin(), order.end(), std::mt19937(schedule));
    return order;
}

inline void launch(dim3 grid, dim3 block, std::size_t shared_bytes, void* stream, std::function<void()> body) {
    Machine& m = machine();
    m.grid = grid, m.block = block, m.body = std::move(body), m.threads = block.x * block.y * block.z, m.failure.clear();
    m.last_device = m.device, m.last_stream = stream, ++m.launches;
    if (!m.threads || m.threads > 1024 || !grid.x || !grid.y || !grid.z || shared_bytes > 48 * 1024) {
        m.error = cudaErrorInvalidConfiguration;
        return;
    }
    while (m.fibers.size() < m.threads) m.fibers.push_back(std::make_unique<Fiber>());
    const std::vector<unsigned> order = scheduled(m.threads), blocks = scheduled(grid.x * grid.y * grid.z);
    for (unsigned b : blocks) {
        if (!m.failure.empty()) break;
        m.block_index = dim3(b % grid.x, b / grid.x % grid.y, b / grid.x / grid.y);
        m.dynamic.reset(new unsigned char[shared_bytes]);
        std::memset(m.dynamic.get(), 0xFF, shared_bytes);
        run_block(order);
    }
    if (!m.failure.empty()) throw std::runtime_error(m.failure);
}

// Every call site (its `site` is a static of its own) gets one array a block, exactly as long as asked for.
inline void* shared_array(const void* site, std::size_t bytes) {
    auto& slot = machine().shared[site];
    if (!slot) slot.reset(new unsigned char[bytes]), std::memset(slot.get(), 0xFF, bytes);
    return slot.get();
}

template <class T>
std::uint64_t to_bits(T value) {
    std::uint64_t b = 0;
    std::memcpy(&b, &value, sizeof(T));
    return b;
}
template <class T>
T from_bits(std::uint64_t bits) {
    T v;
    std::memcpy(&v, &bits, sizeof(T));
    return v;
}
inline int lane() {
    return int(machine().here->index % kWarp);
}

}  // namespace simt
