#include "text.h"

#include <algorithm>
#include <fstream>
#include <sstream>

namespace ptx {
namespace {

// Comments become blanks, so that lines keep their numbers.
void blank_comments(std::string& text) {
    for (std::size_t i = 0; i + 1 < text.size(); ++i) {
        if (text[i] != '/' || (text[i + 1] != '/' && text[i + 1] != '*')) continue;
        const bool of_line = text[i + 1] == '/';
        std::size_t end = of_line ? text.find('\n', i) : text.find("*/", i + 2);
        if (end == std::string::npos) end = text.size();
        if (!of_line) end = std::min(end + 2, text.size());
        for (; i < end; ++i)
            if (text[i] != '\n') text[i] = ' ';
        --i;
    }
}

bool begins_with(const std::string& text, const std::string& beginning) {
    return text.rfind(beginning, 0) == 0;
}

std::string first_word(const std::string& text) {
    return text.substr(0, text.find_first_of(" \t\n("));
}

// Of ".visible .entry name(...)" or ".func (.param .b64 result) name(...)".
std::string function_name(const std::string& header) {
    const std::size_t entry = header.find(".entry"), function = header.find(".func");
    if (entry != std::string::npos) return first_word(trimmed(header.substr(entry + 6)));
    if (function == std::string::npos) fail("a body without a header: " + header);
    std::string rest = trimmed(header.substr(function + 5));
    if (rest[0] == '(') rest = trimmed(rest.substr(rest.find(')') + 1));
    return first_word(rest);
}

std::size_t closing_brace(const std::string& text, std::size_t open) {
    int depth = 0;
    for (std::size_t i = open; i < text.size(); ++i) {
        if (text[i] == '{') ++depth;
        if (text[i] == '}' && --depth == 0) return i;
    }
    fail("a brace that nothing closes");
}

void add_function(ModuleText& module, const std::string& header, std::string body, int line) {
    const std::string name = function_name(header);
    if (header.find(".entry") != std::string::npos) module.kernels.push_back(name);
    module.functions[name] = {header, std::move(body), line};
}

// A statement outside every function.
void add_declaration(ModuleText& module, const std::string& declaration) {
    if (declaration.empty() || declaration.find(".func") != std::string::npos) return;
    const std::size_t shared = declaration.find(".shared");
    if (shared == std::string::npos) fail("cannot read '" + declaration.substr(0, 80) + "' in " + module.file);
    const Variable variable = read_variable(declaration.substr(shared));
    if (declaration.find(".extern") == std::string::npos)
        module.shared.push_back(variable);
    else
        module.dynamic_shared = variable.name;
}

}  // namespace

std::string trimmed(const std::string& text) {
    const std::size_t first = text.find_first_not_of(" \t\r\n"), last = text.find_last_not_of(" \t\r\n");
    return first == std::string::npos ? "" : text.substr(first, last - first + 1);
}

std::vector<std::string> split(const std::string& text, char separator) {
    std::vector<std::string> pieces;
    std::istringstream stream(text);
    for (std::string piece; std::getline(stream, piece, separator);) pieces.push_back(piece);
    return pieces;
}

std::vector<std::string> split_list(const std::string& text) {
    std::vector<std::string> pieces;
    std::string piece;
    int depth = 0;
    for (const char c : text) {
        if (c == '{' || c == '[' || c == '(') ++depth;
        if (c == '}' || c == ']' || c == ')') --depth;
        if (c == ',' && depth == 0) {
            pieces.push_back(trimmed(piece));
            piece.clear();
        } else {
            piece += c;
        }
    }
    if (!trimmed(piece).empty()) pieces.push_back(trimmed(piece));
    return pieces;
}

std::vector<std::string> inside_brackets(const std::string& text) {
    return split_list(text.substr(1, text.size() - 2));
}

Type type_named(const std::string& word) {
    static const std::map<std::string, Type> kTypes = {
        {"pred", Type::pred}, {"b8", Type::b8},     {"b16", Type::b16}, {"b32", Type::b32}, {"b64", Type::b64},
        {"u8", Type::u8},     {"u16", Type::u16},   {"u32", Type::u32}, {"u64", Type::u64}, {"s8", Type::s8},
        {"s16", Type::s16},   {"s32", Type::s32},   {"s64", Type::s64}, {"f16", Type::f16}, {"f32", Type::f32},
        {"f64", Type::f64},   {"bf16", Type::bf16},
    };
    const auto found = kTypes.find(word);
    return found == kTypes.end() ? Type::none : found->second;
}

Variable read_variable(const std::string& declaration) {
    Variable variable;
    int element = 1;
    bool aligned = false;
    std::istringstream words(declaration);
    for (std::string word; words >> word;) {
        if (word == ".align") {
            words >> variable.alignment;
            aligned = true;
        } else if (word[0] != '.') {
            variable.name = word;
            break;
        } else if (const Type type = type_named(word.substr(1)); type != Type::none) {
            element = size_of(type);
        }
    }
    if (!aligned) variable.alignment = element;
    const std::size_t bracket = variable.name.find('[');
    variable.bytes = element;
    if (bracket != std::string::npos) {
        variable.bytes *= std::atoi(variable.name.c_str() + bracket + 1);
        variable.name.resize(bracket);
    }
    return variable;
}

ModuleText read_module(const std::string& path) {
    std::ifstream stream(path);
    if (!stream) fail("cannot open " + path);
    std::string text((std::istreambuf_iterator<char>(stream)), std::istreambuf_iterator<char>());
    blank_comments(text);
    ModuleText module;
    module.file = path.substr(path.rfind('/') + 1);
    std::string pending;  // of a statement whose end has not come yet
    for (std::size_t i = 0; i < text.size(); ++i) {
        if (text[i] == '{') {
            const std::size_t end = closing_brace(text, i);
            const int line =
                1 + static_cast<int>(std::count(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(i), '\n'));
            add_function(module, pending, text.substr(i + 1, end - i - 1), line);
            pending.clear();
            i = end;
        } else if (text[i] == ';') {
            add_declaration(module, trimmed(pending));
            pending.clear();
        } else if (text[i] == '\n') {
            const std::string line = trimmed(pending);
            const bool of_module =
                begins_with(line, ".version") || begins_with(line, ".target") || begins_with(line, ".address_size");
            pending = of_module ? "" : pending + '\n';
        } else {
            pending += text[i];
        }
    }
    return module;
}

}  // namespace ptx
