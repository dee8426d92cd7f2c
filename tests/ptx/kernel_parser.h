// Turns a kernel's text into instructions: names become registers, labels places in the code; calls are written out in
// place.
#pragma once

#include <initializer_list>
#include <map>
#include <string>
#include <vector>

#include "instruction.h"
#include "text.h"

namespace ptx {

class KernelParser;

// One statement while it becomes an instruction: "add.rn.f32 %f1, %f2, %f3" has the words add, rn, f32 and three operands.
struct Statement {
    KernelParser& parser;
    Instruction instruction;
    std::vector<std::string> words, operands;
    std::vector<Type> types;  // those among the words

    bool has(const std::string& word) const;
    // Refuses any other modifier: what is not known is not guessed at.
    void allow(std::initializer_list<const char*> modifiers) const;
    Type type() const { return instruction.type; }
    [[noreturn]] void refuse(const std::string& why) const;

    // Operand `k` of the text becomes the next result or operand of the instruction.
    void result(std::size_t k, Type type);
    void operand(std::size_t k, Type type);
    // Result 0, and every further operand, of the instruction's type.
    void result_and_operands();
    // Operand `k` is "[register or variable + offset]".
    void address(std::size_t k);
    // "{a, b}" or "a".
    std::vector<std::string> elements(std::size_t k) const;
    void next_result(const std::string& name, Type type);
    void next_operand(const std::string& name, Type type);

    int results_taken = 0, operands_taken = 0;
};

using Define = void (*)(Statement&);
using Opcodes = std::map<std::string, Define>;
void add_arithmetic_opcodes(Opcodes& opcodes);
void add_choice_opcodes(Opcodes& opcodes);
void add_float_opcodes(Opcodes& opcodes);
void add_conversion_opcodes(Opcodes& opcodes);
void add_memory_opcodes(Opcodes& opcodes);
void add_warp_opcodes(Opcodes& opcodes);

class KernelParser {
 public:
    KernelParser(const ModuleText& module, Kernel& kernel);
    void parse();

    int register_of(const std::string& operand, Type type);
    // Of "[name + offset]"; sets the offset.
    int address_register(const std::string& operand, std::int64_t& offset);
    // The register that stands for a variable of a call, in which one function hands another a value; -1: it is none.
    int call_variable(const std::string& name) const;
    void emit(Instruction instruction);

 private:
    using Names = std::map<std::string, int>;

    int new_register() { return kernel_.registers++; }
    int constant(std::uint64_t bits);
    int special(const std::string& name);
    int named_register(const std::string& name);
    int negated(const std::string& predicate);
    int symbol(const std::string& name);
    void parse_header();
    void place_shared_variables();
    void parse_function(const FunctionText& function);
    void parse_statement(const std::string& text, int line);
    void declare(const std::string& text);
    void parse_guard(std::string& text, Instruction& instruction);
    void parse_branch(Instruction instruction, const std::vector<std::string>& words, const std::string& label);
    void parse_return(Instruction instruction);
    void parse_call(const std::string& operands);
    void resolve_labels();

    const ModuleText& module_;
    Kernel& kernel_;
    std::vector<Names> scopes_{1};  // of the function that is being read
    Names constants_by_name_, symbols_;
    std::map<std::uint64_t, int> constants_;
    Names call_variables_;  // parameters and result of the function that is being read, where it was called
    std::map<std::string, std::size_t> labels_;
    std::vector<std::pair<std::size_t, std::string>> jumps_;
    std::string label_suffix_, return_label_;
    int calls_ = 0, dynamic_shared_ = -1;
};

Kernel parse_kernel(const ModuleText& module, const std::string& name);

}  // namespace ptx
