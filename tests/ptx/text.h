// Pieces of PTX text, and a file of it cut into its functions and variables.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "instruction.h"

namespace ptx {

std::string trimmed(const std::string& text);
std::vector<std::string> split(const std::string& text, char separator);
// At the commas that stand outside brackets.
std::vector<std::string> split_list(const std::string& text);
// The names in "{a, b}" or "(a, b)".
std::vector<std::string> inside_brackets(const std::string& text);
// Type::none where the word is none.
Type type_named(const std::string& word);
// ".shared .align 8 .b8 name[120]" or ".param .u64 name".
Variable read_variable(const std::string& declaration);

struct FunctionText {
    std::string header, body;
    int first_line = 1;
};

struct ModuleText {
    std::string file;
    std::map<std::string, FunctionText> functions;
    std::vector<std::string> kernels;
    std::vector<Variable> shared;
    std::string dynamic_shared;  // the name of the array whose size the launch gives
};

ModuleText read_module(const std::string& path);

}  // namespace ptx
