// Where and how a CUDA launcher runs. A launcher selects the device, launches on the stream and restores the caller's
// device; it never waits. A launch that fails raises std::runtime_error.
#pragma once

#include <cstdint>

namespace softbellman::cuda {

constexpr int kTickets = 1024;

// Few long rows are shared among blocks where the caller gives them a place to meet: `partials`, row_workspace bytes of
// device memory for `rows` at least as many as the call has, 16-byte aligned, and `tickets`, kTickets numbers that are 0
// (they are 0 again when the launch has ended; launches that may overlap need their own). Null pointers, or 0 bytes: a block
// a row. The results are the same bits either way.
struct Launch {
    int device = 0;
    void* stream = nullptr;
    void* partials = nullptr;
    std::int64_t partials_bytes = 0;
    unsigned* tickets = nullptr;

    template <class Fields>
    void describe(Fields& fields) {
        fields.integer("device", device, 0, 1 << 20);
        fields.handle("stream", stream);
        fields.optional_bytes("partials", partials, partials_bytes);
        fields.optional_array("tickets", tickets, kTickets);
        fields.rule((partials == nullptr) == (tickets == nullptr), "partials and tickets must be given together");
    }
};

std::int64_t row_workspace(std::int64_t rows, std::int64_t vocab, int dtype, int device);

// How many devices can be used (0 without a driver or on any error), and the version of the CUDA runtime linked in, such as
// 13000 (0 on an error). Neither throws.
int device_count() noexcept;
int runtime_version() noexcept;

}  // namespace softbellman::cuda
