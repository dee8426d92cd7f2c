// Python functions of softbellman._C.cpu: the payoffs, and what the host does for both sides: document frequencies, tables
// of edit distances, corpus BLEU.
#include "bind/payoffs.h"

#include "payoffs/document_counter.h"

namespace py = pybind11;

namespace softbellman {
namespace {

double corpus_bleu(const CorpusBleu& corpus) {
    return corpus.score();
}

void bind_documents(py::module_& m) {
    using cpu::DocumentCounter;
    const auto add = [names = std::make_shared<FieldNames>()](DocumentCounter& counter, const py::kwargs& arguments) {
        Documents documents;
        Fields fields(arguments.ptr(), *names);
        documents.describe(fields);
        fields.finish();
        const py::gil_scoped_release release;
        fields.check_ids();
        counter.add(documents);
    };
    const auto write = [names = std::make_shared<FieldNames>()](const DocumentCounter& counter,
                                                                const py::kwargs& arguments) {
        cpu::WrittenNgrams written{&counter};
        Fields fields(arguments.ptr(), *names);
        written.describe(fields);
        fields.finish();
        counter.write(written.order, written.ngrams, written.counts);
    };
    py::class_<DocumentCounter>(m, "DocumentCounter")
        .def(py::init<int>(), py::arg("max_order"))
        .def("add", add)
        .def("documents", &DocumentCounter::documents)
        .def("size", &DocumentCounter::size, py::arg("order"))
        .def("write", write);
    m.def("document_table_bits", &cpu::document_table_bits, py::arg("ngrams"));
    define_answer(m, "fill_document_table", cpu::fill_document_table);
}

}  // namespace

void bind_payoffs_cpu(py::module_& m) {
    SB_DEFINE_PAYOFFS(m, cpu);
    define_answer(m, "fill_edit_tables", cpu::fill_edit_tables);
    define_answer(m, "corpus_bleu", corpus_bleu);
    bind_documents(m);
    // The logarithm and exponential that densities are made of, for tests.
    m.def("exact_log", &cpu::exact_log_of, py::arg("x"));
    m.def("exact_exp", &cpu::exact_exp_of, py::arg("x"));
}

}  // namespace softbellman
