// Modelfiles (https://github.com/ollama/ollama/blob/main/docs/modelfile.md) and their Go templates.
#include "slmi/text/ollama_modelfile.h"

#include "slmi/base/error.h"

namespace slmi::text {
namespace {

constexpr std::string_view kQuotes = "\"\"\"";

/// Literal text of a Go template. Braces that would open an action stand in a string constant.
std::string literal(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    const bool opens = text.substr(i).starts_with("{{");
    out += opens ? "{{ \"{{\" }}" : std::string(1, text[i]);
    if (opens) ++i;
  }
  return out;
}

std::string in_quotes(std::string_view text, const char* what) {
  require(text.find(kQuotes) == std::string_view::npos && !text.ends_with('"'), ErrorKind::Input,
          "the {} holds or ends in quotes that a Modelfile cannot hold: \"{}\"", what, text);
  return fmt::format("{}{}{}", kQuotes, text, kQuotes);
}

}  // namespace

std::string ChatTemplate::go_template() const {
  const auto turn = [](const Turn& t) { return literal(t.prefix) + "{{ .Content }}" + literal(t.suffix); };
  std::string out = "{{ range .Messages }}";
  out += "{{ if eq .Role \"system\" }}" + turn(system_);
  out += "{{ else if eq .Role \"user\" }}" + turn(user_);
  out += "{{ else }}" + turn(assistant_) + "{{ end }}{{ end }}";
  return out + literal(generation_prompt_);
}

std::string ollama_modelfile(const PromptBuilder& prompts, const std::string& gguf_name) {
  const ChatTemplate& chat_template = prompts.chat_template();
  std::string out = fmt::format("# ollama create NAME -f THIS_FILE; {}\n", chat_template.summary());
  if (chat_template.trims())
    out += "# Training strips white space around contents; Ollama's templates cannot: send them stripped.\n";
  out += fmt::format("FROM ./{}\nTEMPLATE {}\n", gguf_name, in_quotes(chat_template.go_template(), "template"));
  const std::string system =
      prompts.system_text().empty() ? chat_template.default_system().value_or("") : prompts.system_text();
  if (!system.empty()) out += fmt::format("SYSTEM {}\n", in_quotes(system, "system turn"));
  for (const auto& stop : chat_template.stop()) out += fmt::format("PARAMETER stop \"{}\"\n", stop);
  return out + "PARAMETER temperature 0\n";
}

}  // namespace slmi::text
