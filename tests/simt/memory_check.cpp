// Calls every launcher of the row kernels on host memory through the SIMT shim, to be compiled with the address and
// alignment sanitizers: every matrix is a heap block of its own that ends with its last element, rows start at every
// misalignment, and masked rows are poisoned as a whole, so that reading one is an error too. With a number as its
// argument the program runs that planted fault of faults.cu instead.
#include <sanitizer/asan_interface.h>

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <vector>

#include "losses/cuda_kernels.h"
#include "cuda_runtime.h"

extern "C" int simt_run_fault(int fault, float* total, char* message, std::size_t size);

namespace {

constexpr std::int64_t kRows = 5, kMaskedRow = 2;
constexpr int kBytes[] = {4, 8, 2, 2};

// kRows rows of `vocab` zero elements, `gap` elements apart, the first one `shift` elements after a 16-byte boundary.
class Matrix {
 public:
    Matrix(std::int64_t vocab, std::int64_t gap, std::int64_t shift, int bytes, bool input)
        : stride(vocab + gap), size_((shift + stride * (kRows - 1) + vocab) * bytes), row_bytes_(vocab * bytes) {
        base_ = static_cast<char*>(std::malloc(size_));
        std::memset(base_, 0, size_);
        data = base_ + shift * bytes;
        masked_ = static_cast<char*>(data) + kMaskedRow * stride * bytes;
        if (input) ASAN_POISON_MEMORY_REGION(masked_, row_bytes_);
    }
    ~Matrix() {
        ASAN_UNPOISON_MEMORY_REGION(masked_, row_bytes_);
        std::free(base_);
    }
    void* data;
    const std::int64_t stride;

 private:
    std::size_t size_, row_bytes_;
    char *base_, *masked_;
};

void call_all(int dtype, std::int64_t vocab, std::int64_t gap, std::int64_t shift) {
    namespace cuda = softbellman::cuda;
    const int bytes = kBytes[dtype], wide = dtype == 1 ? 8 : 4;
    Matrix logits(vocab, gap, shift, bytes, true), q(vocab, 0, shift + 1, bytes, true);
    Matrix to_logits(vocab, gap, shift, bytes, false), to_q(vocab, 1, shift, bytes, false), prior(vocab, 0, 1, wide, true);
    std::vector<std::vector<double>> storage(9, std::vector<double>((kRows * wide + 7) / 8));
    const auto statistic = [&](int i) { return static_cast<void*>(storage[i].data()); };
    std::vector<std::int64_t> ids(kRows, vocab - 1), tokens(kRows);
    ids[kMaskedRow] = 1 << 20;
    ids[1] = -7;  // out of range: must not be followed
    const std::vector<std::uint8_t> mask = {1, 1, 0, 1, 1}, forbidden(vocab, 0);

    // Memory in which the blocks of a row meet, as much as asked for; null where every row has a block of its own.
    const std::int64_t meeting = cuda::row_workspace(kRows + 1, vocab, dtype, 0);
    const std::unique_ptr<char[]> memory(meeting ? new char[meeting] : nullptr);
    std::vector<unsigned> all_tickets(cuda::kTickets);
    void* const partials = memory.get();
    unsigned* const tickets = meeting ? all_tickets.data() : nullptr;

    for (const void* weights : {static_cast<const void*>(nullptr), static_cast<const void*>(prior.data)}) {
        cuda::soft_value_forward(q.data, q.stride, kRows, vocab, dtype, 0.5, weights, prior.stride, ids.data(), mask.data(),
                                 statistic(0), statistic(1), statistic(2), partials, tickets, 0, nullptr);
        // A temperature that small lets every row be read a second time.
        cuda::soft_value_backward(q.data, q.stride, kRows, vocab, dtype, 1e-18, weights, prior.stride, ids.data(),
                                  mask.data(), statistic(0), statistic(1), statistic(3), statistic(4), to_q.data,
                                  to_q.stride, 0, nullptr);
    }
    cuda::soft_bellman_forward(q.data, q.stride, kRows, vocab, dtype, 0.5, ids.data(), statistic(5), mask.data(), kRows,
                               mask.data(), statistic(0), statistic(1), statistic(2), partials, tickets, 0, nullptr);
    cuda::soft_bellman_backward(q.data, q.stride, kRows, vocab, dtype, 0.5, ids.data(), mask.data(), kRows, mask.data(),
                                statistic(1), statistic(2), statistic(5), to_q.data, to_q.stride, 0, nullptr);
    for (int mode = 0; mode < 3; ++mode)
        cuda::policy_forward(logits.data, logits.stride, q.data, q.stride, kRows, vocab, dtype, 0.5, mode, mask.data(),
                             statistic(0), statistic(1), statistic(2), statistic(3), statistic(4), statistic(5), partials,
                             tickets, 0, nullptr);
    cuda::policy_backward(logits.data, logits.stride, q.data, q.stride, kRows, vocab, dtype, mask.data(), statistic(0),
                          statistic(1), statistic(2), statistic(3), statistic(4), statistic(5), statistic(6), statistic(7),
                          to_logits.data, to_logits.stride, to_q.data, to_q.stride, 0, nullptr);
    cuda::critic_forward(q.data, q.stride, kRows, vocab, dtype, ids.data(), statistic(0), 0.1, mask.data(), statistic(1),
                         statistic(2), statistic(3), statistic(4), statistic(5), partials, tickets, 0, nullptr);
    for (void* out : {statistic(6)}) std::memset(out, 0x3f, kRows * wide);
    cuda::critic_backward(q.data, q.stride, kRows, vocab, dtype, ids.data(), 0.1, mask.data(), statistic(2), statistic(3),
                          statistic(4), statistic(6), to_q.data, to_q.stride, 0, nullptr);
    cuda::erac_forward(logits.data, logits.stride, to_logits.data, to_logits.stride, q.data, q.stride, kRows, vocab, dtype,
                       ids.data(), statistic(0), mask.data(), 1, 0.5, 0.1, mask.data(), statistic(1), statistic(2),
                       statistic(3), statistic(4), statistic(5), statistic(6), statistic(7), statistic(8), partials, tickets,
                       0, nullptr);
    for (const void* oracle : {static_cast<const void*>(nullptr), static_cast<const void*>(q.data)}) {
        cuda::distillation_forward(logits.data, logits.stride, oracle, q.stride, kRows, vocab, dtype, 0.5, ids.data(),
                                   nullptr, mask.data(), statistic(0), statistic(1), statistic(2), statistic(3),
                                   statistic(4), partials, tickets, 0, nullptr);
        cuda::distillation_backward(logits.data, logits.stride, oracle, q.stride, kRows, vocab, dtype, 0.5, ids.data(),
                                    nullptr, mask.data(), statistic(1), statistic(2), statistic(3), statistic(4),
                                    statistic(6), to_logits.data, to_logits.stride, 0, nullptr);
    }
    const std::vector<std::uint64_t> seed(1, 7), offset(1, 2);
    const std::vector<std::int64_t> numbers(kRows, 3);
    cuda::sample_forward(logits.data, logits.stride, kRows, vocab, dtype, 1.0, 0, 0, 0, seed.data(), offset.data(),
                         numbers.data(), forbidden.data(), mask.data(), tokens.data(), statistic(0), statistic(1), partials,
                         tickets, 0, nullptr);
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
