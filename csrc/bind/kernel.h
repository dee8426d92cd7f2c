// Binds a launcher as a Python function of keyword arguments: the fields of its parameter struct (bind/fields.h), and
// `threads` on the CPU or the fields of cuda::Launch. The GIL is released while the kernel runs.
#pragma once

#include <memory>

#include "bind/fields.h"
#include "core/device.h"

namespace softbellman {

template <class Parameters>
void define(pybind11::module_& module, const char* name, void (*launcher)(const Parameters&, int)) {
    auto names = std::make_shared<FieldNames>();
    module.def(name, [launcher, names](const pybind11::kwargs& arguments) {
        Parameters parameters;
        int threads = 1;
        Fields fields(arguments.ptr(), *names);
        parameters.describe(fields);
        fields.integer("threads", threads, 1, 1 << 20);
        fields.finish();
        const pybind11::gil_scoped_release release;
        fields.check_ids();
        launcher(parameters, threads);
    });
}

template <class Parameters>
void define(pybind11::module_& module, const char* name, void (*launcher)(const Parameters&, const cuda::Launch&)) {
    auto names = std::make_shared<FieldNames>();
    module.def(name, [launcher, names](const pybind11::kwargs& arguments) {
        Parameters parameters;
        cuda::Launch launch;
        Fields fields(arguments.ptr(), *names);
        parameters.describe(fields);
        launch.describe(fields);
        fields.finish();
        const pybind11::gil_scoped_release release;  // the first call of a process may have to create the device's context
        launcher(parameters, launch);
    });
}

// What the host answers about a struct: the bytes of a workspace, a table, a score.
template <class Parameters, class Answer>
void define_answer(pybind11::module_& module, const char* name, Answer (*function)(const Parameters&)) {
    auto names = std::make_shared<FieldNames>();
    module.def(name, [function, names](const pybind11::kwargs& arguments) {
        Parameters parameters;
        Fields fields(arguments.ptr(), *names);
        parameters.describe(fields);
        fields.finish();
        return function(parameters);
    });
}
template <class Parameters, class Answer>
void define_answer(pybind11::module_& module, const char* name, Answer (*function)(const Parameters&, int)) {
    auto names = std::make_shared<FieldNames>();
    module.def(name, [function, names](const pybind11::kwargs& arguments) {
        Parameters parameters;
        int threads = 1;
        Fields fields(arguments.ptr(), *names);
        parameters.describe(fields);
        fields.integer("threads", threads, 1, 1 << 20);
        fields.finish();
        return function(parameters, threads);
    });
}

}  // namespace softbellman
