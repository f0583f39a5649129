// Checkpoints: a small model in every form (single file, shards, GGUF) is the same model; misfits are all reported.
#include "slmi/formats/checkpoint.h"

#include <fstream>
#include <numeric>

#include "slmi/base/half.h"
#include "slmi/base/parallel.h"
#include "slmi/base/random.h"
#include "slmi/formats/hf_directory.h"
#include "test_files.h"
#include "tiny_model.h"

namespace slmi::formats {
namespace {

TEST(Checkpoint, SingleFileDirectory) {
  const TemporaryDirectory dir;
  const TinyModel model(tiny_config());
  model.write_directory(dir.path());
  const auto c = Checkpoint::open(dir.path());
  EXPECT_EQ(c->kind(), CheckpointKind::HfDirectory);
  EXPECT_EQ(c->gguf(), nullptr);
  EXPECT_EQ(c->config().num_layers, 2);
  EXPECT_EQ(c->file_bytes(), std::filesystem::file_size(dir / "model.safetensors"));
  EXPECT_EQ(c->names().size(), 21u);
  EXPECT_EQ(c->names().front(), "model.embed_tokens.weight");
  EXPECT_EQ(c->names().back(), "lm_head.weight");
  EXPECT_EQ(c->formats_text(), "F32");
  for (const auto& name : c->names()) EXPECT_EQ(to_floats(c->tensor(name)), model.values(name)) << name;
  expect_input_error({dir.path().string(), "no tensor 'x'"}, [&] { c->tensor("x"); });
}

TEST(Checkpoint, TensorsOutliveTheCheckpoint) {
  const TemporaryDirectory dir;
  const TinyModel model(tiny_config());
  model.write_directory(dir.path());
  auto c = Checkpoint::open(dir.path());
  const auto t = c->tensor("model.norm.weight");
  c.reset();
  EXPECT_EQ(to_floats(t), model.values("model.norm.weight"));
}

TEST(Checkpoint, ShardsAreOneModel) {
  const TemporaryDirectory dir, single;
  const TinyModel model(tiny_config());
  model.write_directory(dir.path(), 4000);
  model.write_directory(single.path());
  EXPECT_FALSE(std::filesystem::exists(dir / "model.safetensors"));
  const auto a = Checkpoint::open(dir.path()), b = Checkpoint::open(single.path());
  EXPECT_EQ(a->names(), b->names());
  for (const auto& name : a->names()) EXPECT_EQ(to_floats(a->tensor(name)), model.values(name)) << name;
  EXPECT_EQ(a->fingerprint(), b->fingerprint());
}

TEST(Checkpoint, GgufIsTheSameModel) {
  const TemporaryDirectory dir;
  const TinyModel model(tiny_config());
  model.write_directory(dir.path());
  model.write_gguf(dir / "m.gguf");
  const auto a = Checkpoint::open(dir.path()), b = Checkpoint::open(dir / "m.gguf");
  EXPECT_EQ(b->kind(), CheckpointKind::Gguf);
  ASSERT_NE(b->gguf(), nullptr);
  EXPECT_EQ(a->names(), b->names());
  EXPECT_EQ(a->fingerprint(), b->fingerprint());
  for (const auto& name : a->names()) EXPECT_EQ(to_floats(b->tensor(name)), model.values(name)) << name;
  // In the file itself Q's rows lie interleaved: row 1 of a head is row E/2 of Hugging Face's order.
  const auto& raw = b->gguf()->tensor("blk.0.attn_q.weight");
  const auto floats = floats_from(Dtype::F32, raw.bytes, "q"),
             want = model.values("model.layers.0.self_attn.q_proj.weight");
  const auto d = static_cast<size_t>(a->config().hidden_size), half = static_cast<size_t>(a->config().head_dim / 2);
  EXPECT_EQ(floats[d], want[half * d]);
  EXPECT_NE(floats, want);
}

TEST(Checkpoint, FingerprintTellsSistersApart) {
  const TemporaryDirectory a, b;
  const TinyModel model(tiny_config(), 1), sister(tiny_config(), 2);
  model.write_directory(a.path());
  sister.write_directory(b.path());
  EXPECT_NE(Checkpoint::open(a.path())->fingerprint(), Checkpoint::open(b.path())->fingerprint());
  EXPECT_EQ(Checkpoint::open(a.path())->fingerprint().size(), 64u);
}

TEST(Checkpoint, DigestKnowsEveryByteAndNoThreads) {
  const TemporaryDirectory dir;
  auto config = tiny_config();
  config.vocab_size = 50000;  // matrices of several pieces
  TinyModel(config).write_directory(dir.path());
  const auto digest = [&] { return Checkpoint::open(dir.path())->content_digest(); };
  set_num_threads(1);
  const std::string whole = digest();
  set_num_threads(3);
  EXPECT_EQ(digest(), whole);
  const auto file = dir / "model.safetensors";
  const auto end = static_cast<int64_t>(std::filesystem::file_size(file));
  ASSERT_GT(end, 4 << 20);
  std::fstream bytes(file, std::ios::in | std::ios::out | std::ios::binary);
  const auto flip = [&](int64_t at) {
    bytes.seekg(at);
    const int byte = bytes.get();
    bytes.seekp(at);
    bytes.put(static_cast<char>(byte ^ 1)).flush();
  };
  for (int64_t at = end - 1; at > 8192; at -= 1000003) {  // from the last byte to the header's end
    flip(at);
    EXPECT_NE(digest(), whole) << "byte " << at;
    flip(at);
  }
  EXPECT_EQ(digest(), whole);
}

TEST(Checkpoint, TiedHeadIsAbsent) {
  const TemporaryDirectory dir;
  auto config = tiny_config();
  config.tie_word_embeddings = true;
  const TinyModel model(config);
  model.write_directory(dir.path());
  EXPECT_FALSE(Checkpoint::open(dir.path())->has("lm_head.weight"));
  model.write_gguf(dir / "m.gguf");
  EXPECT_TRUE(Checkpoint::open(dir / "m.gguf")->config().tie_word_embeddings);
}

TEST(Checkpoint, StoredCopyOfATiedHead) {
  const TemporaryDirectory dir;
  auto config = tiny_config();
  config.tie_word_embeddings = true;
  const TinyModel model(config);
  model.write_directory(dir.path());
  auto tensors = model.tensors();
  const auto embed = tensors[0].bytes;
  tensors.push_back({"lm_head.weight", Dtype::F32, tensors[0].shape, embed});
  write_safetensors(dir / "model.safetensors", tensors);
  EXPECT_FALSE(Checkpoint::open(dir.path())->has("lm_head.weight"));
  std::vector<std::byte> other(embed.begin(), embed.end());
  other[0] ^= std::byte{1};
  tensors.back().bytes = other;
  write_safetensors(dir / "model.safetensors", tensors);
  expect_input_error({"tie_word_embeddings", "lm_head.weight differs"}, [&] { Checkpoint::open(dir.path()); });
}

TEST(Checkpoint, AllMisfitsAreReportedAtOnce) {
  const TemporaryDirectory dir;
  const TinyModel model(tiny_config());
  model.write_directory(dir.path());
  auto tensors = model.tensors();
  const std::vector<float> small(4);
  tensors[3] = {"model.layers.0.self_attn.k_proj.weight", Dtype::F32, {2, 2}, bytes_of(small)};
  tensors.erase(tensors.begin() + 1);
  tensors.push_back({"model.layers.0.self_attn.q_proj.bias", Dtype::F32, {4}, bytes_of(small)});
  tensors.push_back({"model.layers.0.self_attn.rotary_emb.inv_freq", Dtype::F32, {4}, bytes_of(small)});
  write_safetensors(dir / "model.safetensors", tensors);
  expect_input_error({"3 problems", "'model.layers.0.input_layernorm.weight' [32] is missing",
                      "k_proj.weight' is [2, 2]; the config asks for [16, 32]", "q_proj.bias' [4] is unexpected"},
                     [&] { Checkpoint::open(dir.path()); });
}

TEST(Checkpoint, OtherDtypesAreNamed) {
  const TemporaryDirectory dir;
  const TinyModel model(tiny_config());
  model.write_directory(dir.path());
  auto tensors = model.tensors();
  const std::vector<uint8_t> bytes(32);
  tensors[1] = {tensors[1].name, Dtype::F8E4M3, {32}, bytes_of(bytes)};
  write_safetensors(dir / "model.safetensors", tensors);
  expect_input_error({"input_layernorm.weight' is F8_E4M3"}, [&] { Checkpoint::open(dir.path()); });
}

TEST(Checkpoint, GgufMisfitsAreReported) {
  const TemporaryDirectory dir;
  const TinyModel model(tiny_config());
  const std::vector<float> bias(32);
  model.write_gguf(dir / "m.gguf", [&](GgufWriter& w) {
    w.add_tensor("blk.0.attn_q.bias", quant::WeightFormat::F32, {32}, bytes_of(bias));
    w.add_tensor("model.norm.weight", quant::WeightFormat::F32, {32}, bytes_of(bias));
  });
  expect_input_error({"2 problems", "blk.0.attn_q.bias", "'model.norm.weight (no counterpart)' [32] is unexpected"},
                     [&] { Checkpoint::open(dir / "m.gguf"); });
}

TEST(Checkpoint, MissingPiecesAreNamed) {
  const TemporaryDirectory dir;
  expect_input_error({"/nowhere/model", "no such file"}, [] { Checkpoint::open("/nowhere/model"); });
  expect_input_error({"no config.json"}, [&] { Checkpoint::open(dir.path()); });
  const TinyModel model(tiny_config());
  model.write_directory(dir.path());
  expect_input_error({"give the directory"}, [&] { Checkpoint::open(dir / "model.safetensors"); });
  std::filesystem::remove(dir / "model.safetensors");
  expect_input_error({"neither model.safetensors nor"}, [&] { Checkpoint::open(dir.path()); });
  write_text(dir / "pytorch_model.bin", "x");
  expect_input_error({"pickled weights are never read"}, [&] { Checkpoint::open(dir.path()); });
  write_text(dir / "README.md", "# model");
  expect_input_error({"README.md", "not a GGUF file"}, [&] { Checkpoint::open(dir / "README.md"); });
}

TEST(Checkpoint, BrokenIndexIsNamed) {
  const TemporaryDirectory dir;
  const TinyModel model(tiny_config());
  model.write_directory(dir.path(), 4000);
  const auto path = dir / "model.safetensors.index.json";
  const Json good = read_json_file(path.string());
  const auto refused = [&](const Json& index, const std::vector<std::string>& parts) {
    write_text(path, index.dump());
    expect_input_error(parts, [&] { Checkpoint::open(dir.path()); });
  };
  refused(Json::object(), {path.string(), "no weight_map"});
  Json bad = good;
  bad["weight_map"]["model.norm.weight"] = "../other/model.safetensors";
  refused(bad, {"'model.norm.weight' lies in '../other/model.safetensors'"});
  bad = good;
  bad["weight_map"]["model.norm.weight"] = 3;
  refused(bad, {"'model.norm.weight' is number"});
  bad = good;
  bad["weight_map"]["model.norm.weight"] = "model-00009-of-00009.safetensors";
  refused(bad, {"model-00009-of-00009.safetensors", "cannot open"});
  bad = good;
  bad["weight_map"].erase("model.norm.weight");
  refused(bad, {"'model.norm.weight' lies in", "which the index does not say"});
  bad = good;
  bad["weight_map"]["ghost"] = good["weight_map"]["model.norm.weight"];
  refused(bad, {"'ghost' is missing in"});
}

TEST(TensorNames, MapBothWays) {
  for (const auto& t : expected_tensors(tiny_config())) {
    const auto gguf = gguf_name_of_hf(t.name);
    EXPECT_FALSE(gguf.empty()) << t.name;
    EXPECT_EQ(hf_name_of_gguf(gguf), t.name);
  }
  EXPECT_EQ(hf_name_of_gguf("blk.15.ffn_down.weight"), "model.layers.15.mlp.down_proj.weight");
  for (const char* name : {"blk.01.attn_q.weight", "blk..attn_q.weight", "blk.1.attn_q.bias", "blk.x.attn_q.weight",
                           "rope_freqs.weight", "blk.1234567.attn_q.weight", ""}) {
    EXPECT_EQ(hf_name_of_gguf(name), "") << name;
  }
}

TEST(RowOrder, FollowsTheRuleAndInverts) {
  // formats: output row 2i+j of the interleaved order is input row j*E/2 + i of the rotate-half order.
  constexpr int64_t kHeads = 3, kWidth = 8;
  std::vector<uint16_t> rows(kHeads * kWidth);
  std::iota(rows.begin(), rows.end(), uint16_t{0});
  const auto interleaved = rows_to_interleaved(bytes_of(rows), kHeads, kWidth, 2);
  std::vector<uint16_t> got(rows.size());
  std::memcpy(got.data(), interleaved.data(), interleaved.size());
  EXPECT_EQ(std::vector<uint16_t>(got.begin(), got.begin() + 8), (std::vector<uint16_t>{0, 4, 1, 5, 2, 6, 3, 7}));
  EXPECT_EQ(got[8], 8);
  EXPECT_EQ(got[9], 12);
  const auto back = rows_to_rotate_half(interleaved, kHeads, kWidth, 2);
  EXPECT_TRUE(std::ranges::equal(back, bytes_of(rows)));
  expect_error(ErrorKind::Internal, {"48 bytes are not"}, [&] { rows_to_rotate_half(interleaved, 4, kWidth, 2); });
}

/// The embedded base: the facts of the file.
TEST(Checkpoint, SmolLM2) {
  const char* path = std::getenv("SLMI_SMOLLM2_GGUF");
  if (path == nullptr) GTEST_SKIP() << "SLMI_SMOLLM2_GGUF does not name the model";
  const auto c = Checkpoint::open(path);
  EXPECT_EQ(c->config().hidden_size, 576);
  EXPECT_EQ(c->config().intermediate_size, 1536);
  EXPECT_EQ(c->config().num_layers, 30);
  EXPECT_EQ(c->config().num_heads, 9);
  EXPECT_EQ(c->config().num_kv_heads, 3);
  EXPECT_EQ(c->config().head_dim, 64);
  EXPECT_EQ(c->config().vocab_size, 49152);
  EXPECT_EQ(c->config().rope_theta, 100000.0);
  EXPECT_EQ(c->config().rms_norm_eps, 1e-5);
  EXPECT_EQ(c->config().rope_scaling.kind, RopeScalingKind::None);
  EXPECT_TRUE(c->config().tie_word_embeddings);
  EXPECT_EQ(c->config().eos_token_ids, std::vector<int64_t>{2});
  EXPECT_EQ(c->names().size(), 272u);
  EXPECT_EQ(c->formats_text(), "Q4_1, Q8_0, F32");
  EXPECT_EQ(c->tensor("model.embed_tokens.weight").format, quant::WeightFormat::Q8_0);
  EXPECT_EQ(c->gguf()->value("tokenizer.ggml.tokens").strings().size(), 49152u);
  const auto q = c->tensor("model.layers.3.self_attn.q_proj.weight");
  const auto raw = c->gguf()->tensor("blk.3.attn_q.weight").bytes;
  constexpr size_t kRow = 576 / 32 * 20;
  ASSERT_EQ(q.bytes.size(), raw.size());
  // Head 2: Hugging Face's row 33 is the file's row 2*1 + 1.
  EXPECT_TRUE(std::ranges::equal(q.bytes.subspan((2 * 64 + 33) * kRow, kRow), raw.subspan((2 * 64 + 3) * kRow, kRow)));
  // hashlib over the norms as the gguf package (0.19.0) reads them, layer by layer, then output_norm.
  EXPECT_EQ(c->fingerprint(), "98a8503257087692b69d5498332d2a3aa2b9c7dc5928f0f7173a2157a341b45e");
}

}  // namespace
}  // namespace slmi::formats
