// Python bindings of CIDEr-D and ROUGE-L on the CPU, and of document frequencies. The workspaces and scores have twins in
// payoffs_cuda.cpp, which differ in the trailing arguments: `threads` here, `device, stream` there.
#include <pybind11/pybind11.h>

#include <vector>

#include "payoffs/document_counter.h"
#include "bind/payoffs_arguments.h"

namespace py = pybind11;

namespace softbellman {

using namespace payoff_arguments;

void bind_payoffs_cpu(py::module_& m) {
    m.def(
        "cider_workspace", [](const Batch& batch, int threads) { return cpu::cider_workspace(problem_of(batch), threads); },
        py::arg("batch"), py::arg("threads"));
    m.def(
        "cider_scores",
        [](const Batch& batch, const Table& table, double unseen, double sigma, int output, bool scale, bool float64,
           std::int64_t out, std::int64_t workspace, int threads) {
            py::gil_scoped_release release;
            cpu::cider_scores(problem_of(batch), table_of(table, unseen), cider_request(sigma, output, scale, float64, out),
                              address<void>(workspace), threads);
        },
        py::arg("batch"), py::arg("table"), py::arg("unseen"), py::arg("sigma"), py::arg("output"), py::arg("scale"),
        py::arg("float64"), py::arg("out"), py::arg("workspace"), py::arg("threads"));
    m.def(
        "rouge_workspace", [](const Batch& batch, int threads) { return cpu::rouge_workspace(problem_of(batch), threads); },
        py::arg("batch"), py::arg("threads"));
    m.def(
        "rouge_scores",
        [](const Batch& batch, double beta, int output, bool scale, bool float64, std::int64_t out, std::int64_t workspace,
           int threads) {
            py::gil_scoped_release release;
            cpu::rouge_scores(problem_of(batch), rouge_request(beta, output, scale, float64, out), address<void>(workspace),
                              threads);
        },
        py::arg("batch"), py::arg("beta"), py::arg("output"), py::arg("scale"), py::arg("float64"), py::arg("out"),
        py::arg("workspace"), py::arg("threads"));

    py::class_<cpu::DocumentCounter>(m, "DocumentCounter")
        .def(py::init<int>(), py::arg("max_order"))
        .def(
            "add",
            [](cpu::DocumentCounter& counter, const Batch& batch) {
                py::gil_scoped_release release;
                counter.add(problem_of(batch));
            },
            py::arg("batch"))
        .def("documents", &cpu::DocumentCounter::documents)
        .def("size", &cpu::DocumentCounter::size, py::arg("order"))
        .def(
            "write",
            [](const cpu::DocumentCounter& counter, int order, std::int64_t ngrams, std::int64_t frequencies) {
                py::gil_scoped_release release;
                counter.write(order, address<std::int64_t>(ngrams), address<std::int64_t>(frequencies));
            },
            py::arg("order"), py::arg("ngrams"), py::arg("frequencies"));
    m.def("document_table_bits", &cpu::document_table_bits, py::arg("entries"));
    // (-1, order), or the row of n-grams of that order which cannot be one.
    m.def(
        "fill_document_table",
        [](const std::vector<std::int64_t>& ngrams, const std::vector<std::int64_t>& frequencies,
           const std::vector<std::int64_t>& sizes, std::int64_t documents, const Table& table) {
            std::vector<const std::int64_t*> rows, counts;
            for (const std::int64_t value : ngrams) rows.push_back(address<const std::int64_t>(value));
            for (const std::int64_t value : frequencies) counts.push_back(address<const std::int64_t>(value));
            int order = 0;
            const std::int64_t bad = cpu::fill_document_table(rows, counts, sizes, documents, static_cast<int>(table[2]),
                                                              static_cast<int>(table[3]), address<DocumentSlot>(table[0]),
                                                              address<DocumentSlot>(table[1]), &order);
            return py::make_tuple(bad, order);
        },
        py::arg("ngrams"), py::arg("frequencies"), py::arg("sizes"), py::arg("documents"), py::arg("table"));
}

}  // namespace softbellman
