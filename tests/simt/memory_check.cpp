// Calls every launcher of the row kernels on host memory through the SIMT shim, to be compiled with the address and
// alignment sanitizers: every matrix is a heap block of its own that ends with its last element, rows start at every
// misalignment, and masked rows are poisoned as a whole, so that reading one is an error too. With a number as its
// argument the program runs that planted fault of faults.cu instead.
#include <sanitizer/asan_interface.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>

#include "cuda_runtime.h"
#include "losses/critic.h"
#include "losses/cross_entropy.h"
#include "losses/divergence.h"
#include "losses/erac.h"
#include "losses/policy.h"
#include "losses/sampling.h"
#include "losses/soft_value.h"
#include "losses/token_statistics.h"

extern "C" int simt_run_fault(int fault, float* total, char* message, std::size_t size);

namespace {

namespace cuda = softbellman::cuda;
using softbellman::Matrix, softbellman::MutableMatrix, softbellman::Rows, softbellman::Sequences;

constexpr std::int64_t kRows = 5, kMaskedRow = 2;
constexpr int kBytes[] = {4, 8, 2, 2};

// kRows rows of `vocab` zero elements, `gap` elements apart, the first one `shift` elements after a 16-byte boundary.
class Buffer {
 public:
    Buffer(std::int64_t vocab, std::int64_t gap, std::int64_t shift, int bytes, bool input)
        : stride_(vocab + gap), size_((shift + stride_ * (kRows - 1) + vocab) * bytes), row_bytes_(vocab * bytes) {
        base_ = static_cast<char*>(std::malloc(size_));
        std::memset(base_, 0, size_);
        data_ = base_ + shift * bytes;
        masked_ = data_ + kMaskedRow * stride_ * bytes;
        if (input) ASAN_POISON_MEMORY_REGION(masked_, row_bytes_);
    }
    ~Buffer() {
        ASAN_UNPOISON_MEMORY_REGION(masked_, row_bytes_);
        std::free(base_);
    }
    Matrix read() const { return {data_, stride_}; }
    MutableMatrix write() const { return {data_, stride_}; }

 private:
    const std::int64_t stride_;
    std::size_t size_, row_bytes_;
    char *base_, *data_, *masked_;
};

void call_all(int dtype, std::int64_t vocab, std::int64_t gap, std::int64_t shift) {
    const int bytes = kBytes[dtype], wide = dtype == 1 ? 8 : 4;
    Buffer logits(vocab, gap, shift, bytes, true), q(vocab, 0, shift + 1, bytes, true);
    Buffer to_logits(vocab, gap, shift, bytes, false), to_q(vocab, 1, shift, bytes, false), prior(vocab, 0, 1, bytes, true);
    std::vector<std::vector<double>> storage(9, std::vector<double>((kRows * wide + 7) / 8));
    const auto statistic = [&](int i) { return static_cast<void*>(storage[i].data()); };
    std::vector<std::int64_t> ids(kRows, vocab - 1), tokens(kRows);
    ids[kMaskedRow] = 1 << 20;
    ids[1] = -7;  // out of range: must not be followed
    const std::vector<std::uint8_t> mask = {1, 1, 0, 1, 1}, forbidden(vocab, 0);
    const Rows shape{kRows, vocab, dtype, mask.data()};

    // Memory in which the blocks of a row meet, as much as asked for; null where every row has a block of its own.
    const std::int64_t meeting = cuda::row_workspace(kRows + 1, vocab, dtype, 0);
    const std::unique_ptr<char[]> memory(meeting ? new char[meeting] : nullptr);
    std::vector<unsigned> all_tickets(cuda::kTickets);
    const cuda::Launch launch{0, nullptr, memory.get(), meeting, meeting ? all_tickets.data() : nullptr};

    for (const Matrix& weights : {Matrix{}, prior.read()}) {
        cuda::soft_value_forward(
            {shape, q.read(), 0.5, weights, ids.data(), statistic(0), statistic(5), statistic(1), statistic(2)}, launch);
        // A temperature that small lets every row be read a second time.
        cuda::soft_value_backward({shape, q.read(), 1e-18, weights, ids.data(), statistic(0), statistic(1), statistic(3),
                                   statistic(4), to_q.write()},
                                  launch);
    }
    const Sequences sequences{kRows, mask.data(), statistic(5), statistic(0), statistic(5)};
    cuda::soft_bellman_forward({shape, q.read(), 0.5, ids.data(), sequences, statistic(1), statistic(2)}, launch);
    cuda::soft_bellman_backward({shape, q.read(), 0.5, ids.data(), sequences, statistic(1), statistic(2), to_q.write()},
                                launch);
    for (int mode = 0; mode < 4; ++mode) {
        const Matrix weights = mode == 3 ? prior.read() : Matrix{};
        cuda::policy_forward({shape, logits.read(), q.read(), weights, 0.5, mode % 3, statistic(0), statistic(1),
                              statistic(2), statistic(3), statistic(4), statistic(5)},
                             launch);
    }
    for (const Matrix& weights : {Matrix{}, prior.read()}) {
        cuda::policy_backward(
            {shape, logits.read(), q.read(), weights, statistic(0), statistic(1), statistic(2), statistic(3), statistic(4),
             statistic(5), statistic(6), statistic(7), to_logits.write(), to_q.write()},
            launch);
    }
    for (int kind = 0; kind < 3; ++kind) {
        cuda::divergence_forward({shape, logits.read(), q.read(), kind, 0.3, 0.5, 0.7, statistic(0), statistic(1),
                                  statistic(2), statistic(3), statistic(4), statistic(5)},
                                 launch);
        // Temperatures that small let every row be read a second time.
        std::memset(statistic(1), 0x3f, kRows * wide);
        std::memset(statistic(3), 0x3f, kRows * wide);
        cuda::divergence_backward(
            {shape, logits.read(), q.read(), kind, 0.3, 1e-18, 1e-18, statistic(0), statistic(1), statistic(2), statistic(3),
             statistic(4), statistic(5), statistic(1), to_logits.write(), to_q.write()},
            launch);
    }
    cuda::critic_forward({shape, q.read(), ids.data(), statistic(0), 0.1, statistic(1), statistic(2), statistic(3),
                          statistic(4), statistic(5)},
                         launch);
    std::memset(statistic(6), 0x3f, kRows * wide);
    cuda::critic_backward(
        {shape, q.read(), ids.data(), 0.1, statistic(2), statistic(3), statistic(4), statistic(6), to_q.write()}, launch);
    cuda::erac_forward(
        {shape, logits.read(), to_logits.read(), q.read(), ids.data(), statistic(0), mask.data(), 1, 0.5, 0.1, statistic(1),
         statistic(2), statistic(3), statistic(4), statistic(5), statistic(6), statistic(7), statistic(8)},
        launch);
    for (const Matrix& oracle : {Matrix{}, q.read()}) {
        cuda::cross_entropy_forward({shape, logits.read(), oracle, 0.5, ids.data(), nullptr, statistic(0), statistic(1),
                                     statistic(2), statistic(3), statistic(4)},
                                    launch);
        cuda::cross_entropy_backward({shape, logits.read(), oracle, 0.5, ids.data(), nullptr, statistic(1), statistic(2),
                                      statistic(3), statistic(4), statistic(6), to_logits.write()},
                                     launch);
    }
    cuda::token_statistics_forward(
        {shape, logits.read(), ids.data(), statistic(0), statistic(1), statistic(2), statistic(3)}, launch);
    for (int coarse = 0; coarse < 2; ++coarse) {
        cuda::token_statistics_backward({shape, logits.read(), ids.data(), statistic(1), statistic(2), statistic(3),
                                         statistic(6), statistic(7), statistic(8), to_logits.write()},
                                        launch);
        std::memset(statistic(2), 0x4f, kRows * wide);  // a normaliser so large that every row is read a second time
    }
    const std::vector<std::uint64_t> seed(1, 7), offset(1, 2);
    const std::vector<std::int64_t> numbers(kRows, 3);
    cuda::sample_forward({shape,
                          logits.read(),
                          1.0,
                          {0, 0, 0, seed.data(), offset.data(), numbers.data()},
                          forbidden.data(),
                          tokens.data(),
                          statistic(0),
                          statistic(1)},
                         launch);
}

}  // namespace

int main(int count, char** arguments) {
    if (count > 1) {
        float total = 0;
        char message[256] = "";
        simt_run_fault(std::atoi(arguments[1]), &total, message, sizeof message);
        std::printf("total %g %s\n", total, message);
        return 0;
    }
    for (int dtype = 0; dtype < 4; ++dtype) {
        for (const std::int64_t vocab : {1, 3, 31, 100}) {
            for (std::int64_t shift = 0; shift < 16 / kBytes[dtype]; ++shift) call_all(dtype, vocab, shift % 3, shift);
        }
        call_all(dtype, 4096 / kBytes[dtype] + 9, 1, 1);  // beyond 256 vectors: a block to a row
        simt::machine().multiprocessors = 100;
        call_all(dtype, 5 * 4096 / kBytes[dtype] + 9, 1, 1);  // six strands: two blocks to a row
        simt::machine().multiprocessors = 1;
    }
    std::printf("memory check passed\n");
}
