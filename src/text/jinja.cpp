// The same template as Jinja text, for tokenizer_config.json and tokenizer.chat_template in GGUF files.
#include "slmi/base/error.h"
#include "slmi/text/chat_template.h"

namespace slmi::text {
namespace {

/// A Jinja string literal. Only expressions put text out, so that no setting for blocks and white space matters.
std::string quoted(std::string_view text) {
  std::string out = "'";
  for (const char c : text) {
    switch (c) {
      case '\'':
        out += "\\'";
        break;
      case '\\':
        out += "\\\\";
        break;
      case '\n':
        out += "\\n";
        break;
      case '\r':
        out += "\\r";
        break;
      case '\t':
        out += "\\t";
        break;
      default:
        out += c;
    }
  }
  return out + "'";
}

std::string put(std::string_view text) {
  return text.empty() ? "" : "{{ " + quoted(text) + " }}";
}

/// An expression that gives the string of the message's role.
std::string by_role(const std::string& system, const std::string& user, const std::string& assistant) {
  if (system == user && user == assistant) return put(system);
  return "{% if message['role'] == 'system' %}" + put(system) + "{% elif message['role'] == 'user' %}" + put(user) +
         "{% else %}" + put(assistant) + "{% endif %}";
}

}  // namespace

std::string ChatTemplate::jinja() const {
  const std::string trim = trim_ ? " | trim" : "";
  std::string out = put(bos_);
  if (default_system_) {
    out += "{% if not messages or messages[0]['role'] != 'system' %}" + put(system_.prefix) +
           put(prepare(*default_system_)) + put(system_.suffix) + "{% endif %}";
  }
  out += "{% for message in messages %}";
  out += by_role(system_.prefix, user_.prefix, assistant_.prefix);
  out += "{{ message['content']" + trim + " }}";
  out += by_role(system_.suffix, user_.suffix, assistant_.suffix);
  out += "{% endfor %}";
  if (!generation_prompt_.empty()) {
    out += "{% if add_generation_prompt %}" + put(generation_prompt_) + "{% endif %}";
  }
  return out;
}

}  // namespace slmi::text
