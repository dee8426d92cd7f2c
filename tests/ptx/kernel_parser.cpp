#include "kernel_parser.h"

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <cstring>

namespace ptx {
namespace {

constexpr int kDynamicAlignment = 16;

int aligned(int offset, int alignment) {
    return (offset + alignment - 1) / alignment * alignment;
}

const Opcodes& opcodes() {
    static const Opcodes kOpcodes = [] {
        Opcodes all;
        add_arithmetic_opcodes(all);
        add_choice_opcodes(all);
        add_float_opcodes(all);
        add_conversion_opcodes(all);
        add_memory_opcodes(all);
        add_warp_opcodes(all);
        return all;
    }();
    return kOpcodes;
}

std::uint64_t number_bits(std::string text, Type type) {
    const bool hexadecimal_float = text.size() > 2 && text[0] == '0' && std::strchr("fFdD", text[1]) != nullptr;
    if (hexadecimal_float) {
        std::uint64_t bits = std::stoull(text.substr(2), nullptr, 16);
        if (std::tolower(text[1]) == 'f' && type == Type::f64) {
            const auto narrow = static_cast<std::uint32_t>(bits);
            float value;
            std::memcpy(&value, &narrow, sizeof value);
            const double wide = value;
            std::memcpy(&bits, &wide, sizeof wide);
        }
        return bits;
    }
    if (text.back() == 'U') text.pop_back();
    return text[0] == '-' ? static_cast<std::uint64_t>(std::stoll(text, nullptr, 0)) : std::stoull(text, nullptr, 0);
}

}  // namespace

// ---- a statement ----

bool Statement::has(const std::string& word) const {
    return std::find(words.begin() + 1, words.end(), word) != words.end();
}

void Statement::allow(std::initializer_list<const char*> modifiers) const {
    for (std::size_t k = 1; k < words.size(); ++k) {
        const bool known = std::find(modifiers.begin(), modifiers.end(), words[k]) != modifiers.end();
        if (!known && type_named(words[k]) == Type::none) refuse("modifier ." + words[k]);
    }
}

void Statement::refuse(const std::string& why) const {
    fail(why + " is not known, in '" + instruction.text + "'");
}

void Statement::next_result(const std::string& name, Type type) {
    instruction.results.at(results_taken++) = parser.register_of(name, type);
}
void Statement::next_operand(const std::string& name, Type type) {
    instruction.operands.at(operands_taken++) = parser.register_of(name, type);
}
void Statement::result(std::size_t k, Type type) {
    next_result(operands.at(k), type);
}
void Statement::operand(std::size_t k, Type type) {
    next_operand(operands.at(k), type);
}

void Statement::result_and_operands() {
    result(0, type());
    for (std::size_t k = 1; k < operands.size(); ++k) operand(k, type());
}

void Statement::address(std::size_t k) {
    instruction.operands.at(operands_taken++) = parser.address_register(operands.at(k), instruction.offset);
}

std::vector<std::string> Statement::elements(std::size_t k) const {
    const std::string& text = operands.at(k);
    return text[0] == '{' ? inside_brackets(text) : std::vector<std::string>{text};
}

// ---- names ----

KernelParser::KernelParser(const ModuleText& module, Kernel& kernel) : module_(module), kernel_(kernel) {}

int KernelParser::constant(std::uint64_t bits) {
    const auto found = constants_.find(bits);
    if (found != constants_.end()) return found->second;
    const int made = new_register();
    kernel_.constants.emplace_back(made, bits);
    return constants_[bits] = made;
}

int KernelParser::special(const std::string& name) {
    const auto found = constants_by_name_.find(name);
    if (found != constants_by_name_.end()) return found->second;
    const int made = new_register();
    kernel_.specials.emplace_back(made, name);
    return constants_by_name_[name] = made;
}

// Registers that are declared by number, "%r<20>", belong to the function; those declared by name to their block.
int KernelParser::named_register(const std::string& name) {
    for (auto scope = scopes_.rbegin(); scope != scopes_.rend(); ++scope) {
        const auto found = scope->find(name);
        if (found != scope->end()) return found->second;
    }
    return scopes_.front()[name] = new_register();
}

int KernelParser::symbol(const std::string& name) {
    if (name == module_.dynamic_shared && !name.empty()) {
        if (dynamic_shared_ < 0) {
            dynamic_shared_ = new_register();
            kernel_.constants.emplace_back(dynamic_shared_, 0);  // set when all static variables are known
        }
        return dynamic_shared_;
    }
    const auto found = symbols_.find(name);
    return found == symbols_.end() ? -1 : constant(static_cast<std::uint64_t>(found->second));
}

int KernelParser::negated(const std::string& predicate) {
    const int made = new_register();
    const std::string name = "%negated" + std::to_string(made);
    scopes_.front()[name] = made;
    parse_statement("not.pred " + name + ", " + predicate, 0);
    return made;
}

int KernelParser::register_of(const std::string& operand, Type type) {
    static const std::vector<std::string> kSpecials = {"%tid.", "%ntid.", "%ctaid.", "%nctaid.", "%laneid"};
    if (operand == "_") return new_register();  // a result that nobody wants
    if (operand[0] == '!') return negated(trimmed(operand.substr(1)));
    if (operand[0] == '%') {
        for (const std::string& beginning : kSpecials)
            if (operand.rfind(beginning, 0) == 0) return special(operand);
        return named_register(operand);
    }
    if (operand == "WARP_SZ") return constant(kLanes);
    if (std::isdigit(static_cast<unsigned char>(operand[0])) != 0 || operand[0] == '-')
        return constant(number_bits(operand, type));
    const int found = symbol(operand);
    if (found < 0) fail("operand '" + operand + "' of " + kernel_.name + " is not known");
    return found;
}

int KernelParser::call_variable(const std::string& name) const {
    for (auto scope = scopes_.rbegin(); scope != scopes_.rend(); ++scope) {
        const auto found = scope->find(name);
        if (found != scope->end()) return found->second;
    }
    const auto found = call_variables_.find(name);
    return found == call_variables_.end() ? -1 : found->second;
}

int KernelParser::address_register(const std::string& operand, std::int64_t& offset) {
    std::string name = trimmed(operand.substr(1, operand.size() - 2));
    const std::size_t plus = name.find('+');
    if (plus != std::string::npos) {
        offset = std::stoll(name.substr(plus + 1), nullptr, 0);
        name = trimmed(name.substr(0, plus));
    }
    return register_of(name, Type::u64);
}

// ---- statements ----

void KernelParser::emit(Instruction instruction) {
    kernel_.code.push_back(std::move(instruction));
}

void KernelParser::declare(const std::string& text) {
    const std::string directive = text.substr(0, text.find_first_of(" \t"));
    if (directive == ".reg") {
        const std::string names = trimmed(trimmed(text.substr(4)).substr(trimmed(text.substr(4)).find_first_of(" \t")));
        for (const std::string& name : split_list(names))
            if (name.find('<') == std::string::npos) scopes_.back()[name] = new_register();
        return;
    }
    if (directive == ".pragma" || directive == ".loc") return;
    if (directive != ".param" && directive != ".local" && directive != ".shared")
        fail("directive '" + text + "' is not known");
    const Variable variable = read_variable(text);
    if (directive == ".param") {  // of a call
        scopes_.back()[variable.name] = new_register();
        return;
    }
    int& bytes = directive == ".local" ? kernel_.local_bytes : kernel_.shared_bytes;
    symbols_[variable.name] = aligned(bytes, variable.alignment);
    bytes = symbols_[variable.name] + variable.bytes;
}

void KernelParser::parse_guard(std::string& text, Instruction& instruction) {
    if (text[0] != '@') return;
    const std::size_t end = text.find_first_of(" \t");
    std::string guard = text.substr(1, end - 1);
    instruction.guard_negated = guard[0] == '!';
    if (instruction.guard_negated) guard.erase(0, 1);
    instruction.guard = named_register(guard);
    text = trimmed(text.substr(end));
}

void KernelParser::parse_branch(Instruction instruction, const std::vector<std::string>& words, const std::string& label) {
    instruction.flow = Flow::branch;
    instruction.uniform = words.size() > 1;
    jumps_.emplace_back(kernel_.code.size(), label);
    emit(std::move(instruction));
}

// From a function that was called: to what follows the call.
void KernelParser::parse_return(Instruction instruction) {
    if (!return_label_.empty()) return parse_branch(std::move(instruction), {"bra"}, return_label_);
    instruction.flow = Flow::leave;
    emit(std::move(instruction));
}

// "(result), name, (arguments)"
void KernelParser::parse_call(const std::string& operands) {
    const std::vector<std::string> parts = split_list(operands);
    const std::string& name = parts.at(1);
    const auto function = module_.functions.find(name);
    if (function == module_.functions.end()) fail("a call of " + name + ", which is not there");
    Names variables{{"func_retval0", call_variable(inside_brackets(parts[0]).at(0))}};
    const std::vector<std::string> arguments = inside_brackets(parts.at(2));
    for (std::size_t k = 0; k < arguments.size(); ++k)
        variables[name + "_param_" + std::to_string(k)] = call_variable(arguments[k]);

    std::vector<Names> scopes(1);
    std::string suffix = "#" + std::to_string(++calls_), label = "return" + suffix;
    const auto exchange = [&] {
        scopes_.swap(scopes);
        call_variables_.swap(variables);
        label_suffix_.swap(suffix);
        return_label_.swap(label);
    };
    exchange();
    parse_function(function->second);
    labels_[return_label_] = kernel_.code.size();
    exchange();
}

void KernelParser::parse_statement(const std::string& text, int line) {
    if (text[0] == '.') return declare(text);
    Statement statement{*this, {}, {}, {}, {}};
    Instruction& instruction = statement.instruction;
    instruction.line = line;
    instruction.text = text;
    std::string rest = text;
    parse_guard(rest, instruction);
    const std::size_t end = std::min(rest.find_first_of(" \t\n"), rest.size());
    statement.words = split(rest.substr(0, end), '.');
    rest = trimmed(rest.substr(end));
    const std::string& opcode = statement.words[0];
    if (opcode == "bra") return parse_branch(instruction, statement.words, rest + label_suffix_);
    if (opcode == "ret" || opcode == "exit") return parse_return(instruction);
    if (opcode == "call") return parse_call(rest);

    statement.operands = split_list(rest);
    for (const std::string& word : statement.words)
        if (const Type type = type_named(word); type != Type::none) statement.types.push_back(type);
    if (!statement.types.empty()) instruction.type = statement.types[0];
    const auto define = opcodes().find(opcode);
    if (define == opcodes().end()) statement.refuse("opcode " + opcode);
    define->second(statement);
    emit(statement.instruction);
}

void KernelParser::parse_function(const FunctionText& function) {
    std::string statement;
    int line = function.first_line;
    for (std::size_t i = 0; i < function.body.size(); ++i) {
        const char c = function.body[i];
        if (c == '\n') ++line;
        if (statement.empty()) {
            if (std::isspace(static_cast<unsigned char>(c)) != 0 || c == ';') continue;
            if (c == '{') {
                scopes_.emplace_back();
                continue;
            }
            if (c == '}') {
                scopes_.pop_back();
                continue;
            }
        }
        if (c == ':' && statement[0] == '$') {
            labels_[statement + label_suffix_] = kernel_.code.size();
            statement.clear();
        } else if (c == ';') {
            parse_statement(trimmed(statement), line);
            statement.clear();
        } else {
            statement += c;
        }
    }
}

// ---- a kernel ----

void KernelParser::parse_header() {
    const std::string& header = module_.functions.at(kernel_.name).header;
    const std::size_t open = header.find('(', header.find(".entry")), close = header.rfind(')');
    for (const std::string& declaration : split_list(header.substr(open + 1, close - open - 1))) {
        Variable parameter = read_variable(declaration);
        parameter.offset = aligned(kernel_.parameter_bytes, parameter.alignment);
        symbols_[parameter.name] = parameter.offset;
        kernel_.parameter_bytes = parameter.offset + parameter.bytes;
        kernel_.parameters.push_back(parameter);
    }
    const std::size_t most = header.find(".maxntid");
    if (most != std::string::npos) kernel_.most_threads = std::atoi(header.c_str() + most + 8);
}

void KernelParser::place_shared_variables() {
    for (const Variable& variable : module_.shared) {
        symbols_[variable.name] = aligned(kernel_.shared_bytes, variable.alignment);
        kernel_.shared_bytes = symbols_[variable.name] + variable.bytes;
    }
}

void KernelParser::resolve_labels() {
    for (const auto& [jump, label] : jumps_) {
        const auto found = labels_.find(label);
        if (found == labels_.end()) fail("label " + label + " of " + kernel_.name + " is not there");
        kernel_.code[jump].target = static_cast<std::int32_t>(found->second);
        kernel_.code[found->second].is_target = true;
    }
}

void KernelParser::parse() {
    parse_header();
    place_shared_variables();
    parse_function(module_.functions.at(kernel_.name));
    Instruction end;
    end.flow = Flow::leave;
    end.text = "(end)";
    emit(end);
    kernel_.shared_bytes = aligned(kernel_.shared_bytes, kDynamicAlignment);
    for (auto& [number, bits] : kernel_.constants)
        if (number == dynamic_shared_) bits = static_cast<std::uint64_t>(kernel_.shared_bytes);
    resolve_labels();
}

Kernel parse_kernel(const ModuleText& module, const std::string& name) {
    Kernel kernel;
    kernel.name = name;
    kernel.file = module.file;
    KernelParser(module, kernel).parse();
    return kernel;
}

}  // namespace ptx
