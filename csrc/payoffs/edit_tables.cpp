// The tables of the distances: computed once on the host for all lengths, then read by the CPU's and the GPU's kernels, so
// that both take the same decisions. Sums and products only, of numbers with a 64-bit exponent: neither 64 operations on
// 2^24 tokens nor 10,000 positions leave the range, and the relative error stays near the number of steps times 2^-53.
#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <string>
#include <vector>

#include "payoffs/edits.h"

namespace softbellman::cpu {
namespace {

constexpr double kLogTwo = 0.69314718055994530942;
// Bounds of the logarithms within which the density's numbers stay, some way inside float64's.
constexpr double kLargestLog = 680.0;

// mantissa * 2^exponent with mantissa in [1/2, 1), or 0.
struct Wide {
    double mantissa = 0.0;
    std::int64_t exponent = 0;

    static Wide of(double mantissa, std::int64_t exponent = 0) {
        if (mantissa == 0.0) return {};
        int shift = 0;
        const double part = std::frexp(mantissa, &shift);
        return {part, exponent + shift};
    }
    static Wide exponential(double logarithm) {
        const double turns = std::floor(logarithm / kLogTwo);
        if (!(turns > -9e15)) return {};
        return of(std::exp(logarithm - turns * kLogTwo), static_cast<std::int64_t>(turns));
    }
    double logarithm() const {
        if (mantissa == 0.0) return -INFINITY;
        return std::log(mantissa) + static_cast<double>(exponent) * kLogTwo;
    }
};

Wide operator*(Wide a, Wide b) {
    return Wide::of(a.mantissa * b.mantissa, a.exponent + b.exponent);
}

Wide operator+(Wide a, Wide b) {
    if (a.mantissa == 0.0) return b;
    if (b.mantissa == 0.0) return a;
    if (a.exponent < b.exponent) std::swap(a, b);
    const std::int64_t gap = a.exponent - b.exponent;
    if (gap > 64) return a;
    return Wide::of(a.mantissa + std::ldexp(b.mantissa, -static_cast<int>(gap)), a.exponent);
}

// part / whole as a threshold; exactly 2^62 when they are equal.
std::int64_t threshold(Wide part, Wide whole) {
    if (part.mantissa == 0.0) return 0;
    const std::int64_t gap = std::min<std::int64_t>(whole.exponent - part.exponent, 128);
    const double share = std::ldexp(part.mantissa / whole.mantissa, kEditDecisionBits - static_cast<int>(gap));
    return static_cast<std::int64_t>(share);
}

// One row of cumulated thresholds from weights, and the logarithm of their sum.
double cumulate(const std::vector<Wide>& weights, std::int64_t* thresholds) {
    std::vector<Wide> sums(weights.size());
    Wide sum;
    for (std::size_t e = 0; e < weights.size(); ++e) sums[e] = sum = sum + weights[e];
    for (std::size_t e = 0; e < weights.size(); ++e) thresholds[e] = threshold(sums[e], sum);
    return sum.logarithm();
}

// The exponent k for which the density may scale every operation by 2^k: sums of at most E scaled operations stay within
// exp(+-680), where `largest[e]` is the log total weight of the scripts of e operations on the longest sequence.
int scale_exponent(const std::vector<double>& largest, double smallest_operation, std::int32_t length) {
    const auto limit = static_cast<std::int32_t>(largest.size()) - 1;
    if (limit == 0 || smallest_operation == INFINITY) return 0;
    const double low = -std::log(smallest_operation) - kLargestLog / limit;
    double high = INFINITY;
    for (std::int32_t e = 1; e <= limit; ++e) high = std::min(high, (kLargestLog - largest[e]) / e);
    if (!(low <= high))
        throw std::invalid_argument("operation_weights are too uneven for a max_distance of " + std::to_string(limit) +
                                    " and " + std::to_string(length) +
                                    " tokens: densities would leave float64's range; lower max_distance");
    return static_cast<int>(std::lround((low + high) / 2 / kLogTwo));
}

void fill_hamming(const EditTables& tables) {
    const std::int32_t columns = tables.max_distance + 1;
    const Wide each = Wide::exponential(-1.0 / tables.temperature) *
                      Wide::of(static_cast<double>(std::max<std::int64_t>(tables.alphabet - 1, 0)));
    std::vector<Wide> weights(columns);
    for (std::int32_t n = 0; n <= tables.length; ++n) {
        Wide weight = Wide::of(1.0);  // C(n, d) (A-1)^d exp(-d/temperature)
        for (std::int32_t d = 0; d < columns; ++d) {
            weights[d] = weight;
            weight = d < n ? weight * each * Wide::of(static_cast<double>(n - d) / (d + 1)) : Wide();
        }
        tables.log_normalizers[n] = cumulate(weights, tables.thresholds + static_cast<std::int64_t>(n) * columns);
    }
}

int fill_edit(const EditTables& tables) {
    const std::int32_t length = tables.length, columns = tables.max_distance + 1;
    const double substitution = tables.alphabet < 2 ? 0.0 : tables.substitution;  // else there is no other token
    const Wide insert = Wide::of(tables.insertion), replace = Wide::of(substitution), remove = Wide::of(tables.deletion);
    std::vector<Wide> cooling(columns), before(columns), row(columns), weights(columns);
    for (std::int32_t e = 0; e < columns; ++e)
        cooling[e] = e == 0 ? Wide::of(1.0) : Wide::exponential(-e / tables.temperature);

    std::int64_t* walk = tables.thresholds + static_cast<std::int64_t>(length + 1) * columns;
    for (std::int32_t m = 0; m <= length; ++m) {
        for (std::int32_t left = 0; left < columns; ++left) {
            std::int64_t* here = walk + 3 * (static_cast<std::int64_t>(m) * columns + left);
            const Wide first = left > 0 ? insert * row[left - 1] : Wide();
            if (m == 0) {
                row[left] = left > 0 ? first : Wide::of(1.0);
                std::fill(here, here + 3, std::int64_t(1) << kEditDecisionBits);
                continue;
            }
            const Wide second = first + before[left];
            const Wide third = left > 0 ? second + replace * before[left - 1] : second;
            row[left] = left > 0 ? third + remove * before[left - 1] : third;
            here[0] = threshold(first, row[left]);
            here[1] = threshold(second, row[left]);
            here[2] = threshold(third, row[left]);
        }
        // Without a touchable token nothing changes, though the recursion starts from a gap with insertions.
        for (std::int32_t e = 0; e < columns; ++e) weights[e] = m == 0 && e > 0 ? Wide() : cooling[e] * row[e];
        tables.log_normalizers[m] = cumulate(weights, tables.thresholds + static_cast<std::int64_t>(m) * columns);
        before = row;
    }

    std::vector<double> largest(columns);
    for (std::int32_t e = 0; e < columns; ++e) largest[e] = before[e].logarithm();
    double smallest = INFINITY;
    for (const double operation :
         {substitution / static_cast<double>(std::max<std::int64_t>(tables.alphabet - 1, 1)),
          tables.insertion / static_cast<double>(std::max<std::int64_t>(tables.alphabet, 1)), tables.deletion})
        if (operation > 0.0) smallest = std::min(smallest, operation);
    return scale_exponent(largest, smallest, length);
}

}  // namespace

int fill_edit_tables(const EditTables& tables) {
    if (tables.edit) return fill_edit(tables);
    fill_hamming(tables);
    return 0;
}

}  // namespace softbellman::cpu
