// Encodes files for tools/check-tokenizers and says how fast it was:
//   slmi_text_dump TOKENIZER REPEATS INPUT OUTPUT [INPUT OUTPUT ...]
// INPUT: documents one after another, each u32 length (little-endian) and bytes. OUTPUT: for each u32 count and i32
// ids. Prints one JSON line: load_ms, hash, vocab_size, and for each input bytes, tokens and the best of REPEATS in
// seconds; times are CPU time.
//   slmi_text_dump --jinja tests/text/golden
// Prints golden/jinja.json, which make_golden.py checks with transformers.
#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <string>
#include <vector>

#include "slmi/base/atomic_file.h"
#include "slmi/base/byte_reader.h"
#include "slmi/base/mapped_file.h"
#include "slmi/text/chat_template.h"
#include "slmi/text/tokenizer.h"

namespace {

/// CPU time of this thread: on a machine that others use too, the only time worth comparing.
double cpu_seconds() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

std::vector<std::string_view> read_documents(const slmi::MappedFile& file) {
  slmi::ByteReader in(file.bytes(), file.path().string());
  std::vector<std::string_view> out;
  while (in.remaining() > 0) {
    const auto bytes = in.read_bytes(in.read_u32("length"), "document");
    out.emplace_back(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  }
  return out;
}

std::string encode_file(const slmi::text::Tokenizer& tokenizer, int repeats, const char* input, const char* output) {
  const auto file = slmi::MappedFile::open(input);
  const auto documents = read_documents(file);
  double best = 1e30;
  uint64_t num_bytes = 0, num_tokens = 0, num_wrong = 0;
  std::vector<int32_t> ids;
  for (int i = 0; i < repeats; ++i) {
    const double start = cpu_seconds();
    for (const auto document : documents) {
      ids.clear();
      tokenizer.encode(document, ids);
    }
    best = std::min(best, cpu_seconds() - start);
  }
  slmi::AtomicFile out(output);
  for (const auto document : documents) {
    ids = tokenizer.encode(document);
    const auto count = static_cast<uint32_t>(ids.size());
    out.write(std::string_view(reinterpret_cast<const char*>(&count), sizeof(count)));
    out.write(std::string_view(reinterpret_cast<const char*>(ids.data()), ids.size() * sizeof(int32_t)));
    num_bytes += document.size();
    num_tokens += ids.size();
    num_wrong += tokenizer.decode(ids) != document ? 1 : 0;
  }
  out.commit();
  return fmt::format(R"({{"bytes": {}, "tokens": {}, "documents": {}, "not_decoded_back": {}, "best_s": {:.6f}}})",
                     num_bytes, num_tokens, documents.size(), num_wrong, best);
}

void print_jinja(const std::string& golden) {
  slmi::Json json = slmi::Json::object();
  for (const std::string name : {"llama3", "chatml", "plain"}) {
    const auto file = golden + (name == "chatml" ? "/tiny_smollm.json" : "/tiny_llama3.json");
    json[name] = slmi::text::ChatTemplate::load(name, *slmi::text::Tokenizer::load(file)).jinja();
  }
  fmt::print("{}\n", json.dump(1));
}

}  // namespace

int main(int argc, char** argv) {
  if (argc == 3 && std::string_view(argv[1]) == "--jinja") {
    print_jinja(argv[2]);
    return 0;
  }
  if (argc < 5 || argc % 2 == 0) {
    std::fputs("usage: slmi_text_dump TOKENIZER REPEATS INPUT OUTPUT [INPUT OUTPUT ...]\n", stderr);
    return 2;
  }
  try {
    const double start = cpu_seconds();
    const auto tokenizer = slmi::text::Tokenizer::load(argv[1]);
    const double load_s = cpu_seconds() - start;
    const double hash_start = cpu_seconds();
    const std::string hash = tokenizer->hash();
    const double hash_s = cpu_seconds() - hash_start;
    std::string files;
    for (int i = 3; i < argc; i += 2) {
      files += (files.empty() ? "" : ", ") + encode_file(*tokenizer, std::atoi(argv[2]), argv[i], argv[i + 1]);
    }
    fmt::print(R"({{"load_ms": {:.1f}, "hash_ms": {:.1f}, "hash": "{}", "vocab_size": {}, "files": [{}]}})"
               "\n",
               load_s * 1e3, hash_s * 1e3, hash, tokenizer->vocab_size(), files);
  } catch (const std::exception& e) {
    fmt::print(stderr, "slmi_text_dump: {}\n", e.what());
    return 1;
  }
  return 0;
}
