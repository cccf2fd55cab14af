#include "tools/make_checkpoint/random_checkpoint.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <filesystem>
#include <mutex>
#include <optional>
#include <system_error>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "kernels/base/status_macros.h"
#include "shard/checkpoint/file_access.h"
#include "shard/checkpoint/model_config.h"
#include "shard/checkpoint/phi_tensors.h"
#include "tools/make_checkpoint/byte_tokenizer.h"
#include "tools/make_checkpoint/random_elements.h"
#include "tools/make_checkpoint/safetensors_layout.h"

namespace phi::tools {
namespace {

constexpr uint64_t kMaxTokenizerBytes = 64 << 20;

class OutputFile {
 public:
  static absl::StatusOr<OutputFile> Create(const std::string& path) {
    const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd < 0) return absl::ErrnoToStatus(errno, "cannot write " + path);
    return OutputFile(path, fd);
  }
  OutputFile(OutputFile&& other) noexcept
      : path_(std::move(other.path_)), fd_(std::exchange(other.fd_, -1)) {}
  OutputFile& operator=(OutputFile&&) = delete;
  ~OutputFile() {
    if (fd_ >= 0) ::close(fd_);
  }

  // Safe from several threads.
  absl::Status WriteAt(uint64_t offset, const void* data, size_t bytes) const {
    const auto* from = static_cast<const char*>(data);
    while (bytes > 0) {
      const ssize_t done = ::pwrite(fd_, from, bytes, static_cast<off_t>(offset));
      if (done < 0 && errno == EINTR) continue;
      if (done < 0) return absl::ErrnoToStatus(errno, "cannot write " + path_);
      from += done;
      offset += static_cast<uint64_t>(done);
      bytes -= static_cast<size_t>(done);
    }
    return absl::OkStatus();
  }

 private:
  OutputFile(std::string path, int fd) : path_(std::move(path)), fd_(fd) {}

  std::string path_;
  int fd_;
};

absl::Status WriteText(const std::filesystem::path& path, const std::string& text) {
  PHI_ASSIGN_OR_RETURN(const OutputFile file, OutputFile::Create(path.string()));
  return file.WriteAt(0, text.data(), text.size());
}

// A run of one tensor's elements: the unit of work.
struct Chunk {
  size_t file_index = 0;
  RandomTensor tensor;
  uint64_t first_element = 0;
  uint64_t offset = 0;  // in the file
  size_t bytes = 0;
};
constexpr uint64_t kChunkElements = 1 << 20;

std::vector<Chunk> MakeChunks(const std::vector<SafetensorsLayout>& layouts,
                              uint64_t seed,
                              const shard::ModelConfig& config) {
  const uint64_t element = kernels::DTypeBytes(config.dtype);
  std::vector<Chunk> chunks;
  for (size_t file = 0; file < layouts.size(); ++file) {
    for (size_t i = 0; i < layouts[file].tensors.size(); ++i) {
      const RandomTensor tensor = MakeRandomTensor(seed, layouts[file].tensors[i].name, config);
      const uint64_t count = ElementCount(layouts[file].tensors[i]);
      for (uint64_t first = 0; first < count; first += kChunkElements) {
        chunks.push_back({.file_index = file,
                          .tensor = tensor,
                          .first_element = first,
                          .offset = layouts[file].offsets[i] + first * element,
                          .bytes = std::min(kChunkElements, count - first) * element});
      }
    }
  }
  return chunks;
}

// Fills and writes chunks on several threads; the first error stops all.
class ChunkWriter {
 public:
  ChunkWriter(const std::vector<OutputFile>& files,
              const std::vector<Chunk>& chunks,
              const RandomCheckpoint& options)
      : files_(files), chunks_(chunks), options_(options) {
    for (const Chunk& chunk : chunks) total_bytes_ += chunk.bytes;
  }

  absl::Status Run() {
    {
      std::vector<std::jthread> threads;
      for (int i = 1; i < options_.num_threads; ++i) threads.emplace_back([this] { Work(false); });
      Work(true);
    }
    if (status_.ok() && options_.on_progress) options_.on_progress(total_bytes_, total_bytes_);
    return status_;
  }

 private:
  void Work(bool reports) {
    std::vector<std::byte> buffer;
    for (size_t i = next_++; i < chunks_.size() && !failed_; i = next_++) {
      const Chunk& chunk = chunks_[i];
      buffer.resize(chunk.bytes);
      chunk.tensor.Fill(chunk.first_element, buffer);
      const absl::Status status =
          files_[chunk.file_index].WriteAt(chunk.offset, buffer.data(), chunk.bytes);
      if (!status.ok()) {
        const std::lock_guard lock(mutex_);
        status_.Update(status);
        failed_ = true;
      }
      done_bytes_ += chunk.bytes;
      if (reports && options_.on_progress) options_.on_progress(done_bytes_, total_bytes_);
    }
  }

  const std::vector<OutputFile>& files_;
  const std::vector<Chunk>& chunks_;
  const RandomCheckpoint& options_;
  uint64_t total_bytes_ = 0;
  std::atomic<size_t> next_ = 0;
  std::atomic<uint64_t> done_bytes_ = 0;
  std::atomic<bool> failed_ = false;
  std::mutex mutex_;
  absl::Status status_;
};

absl::Status WriteWeights(const RandomCheckpoint& options, const shard::ModelConfig& config) {
  const std::filesystem::path dir(options.dir);
  const std::vector<SafetensorsLayout> layouts =
      LayOut(shard::PhiTensors(config), config.dtype, options.num_files);
  std::vector<OutputFile> files;
  for (const SafetensorsLayout& layout : layouts) {
    PHI_ASSIGN_OR_RETURN(OutputFile file, OutputFile::Create((dir / layout.file_name).string()));
    PHI_RETURN_IF_ERROR(file.WriteAt(0, layout.header.data(), layout.header.size()));
    files.push_back(std::move(file));
  }
  const std::vector<Chunk> chunks = MakeChunks(layouts, options.seed, config);
  PHI_RETURN_IF_ERROR(ChunkWriter(files, chunks, options).Run());
  if (layouts.size() > 1)
    return WriteText(dir / "model.safetensors.index.json", IndexJson(layouts));
  return absl::OkStatus();
}

// Leaves nothing of an older checkpoint that a loader could mix with the new one.
absl::Status ClearDirectory(const RandomCheckpoint& options) {
  std::error_code error;
  std::filesystem::create_directories(options.dir, error);
  if (error)
    return absl::InvalidArgumentError(
        absl::StrCat("cannot make ", options.dir, ": ", error.message()));
  std::vector<std::filesystem::path> old;
  for (const auto& entry : std::filesystem::directory_iterator(options.dir, error)) {
    const std::string name = entry.path().filename().string();
    const bool is_ours = name == "config.json" || name == "tokenizer.json" ||
                         name == "model.safetensors.index.json" ||
                         entry.path().extension() == ".safetensors";
    if (is_ours) old.push_back(entry.path());
  }
  if (!old.empty() && !options.overwrite) {
    return absl::AlreadyExistsError(absl::StrCat(options.dir,
                                                 " holds ",
                                                 old.front().filename().string(),
                                                 " already; --overwrite replaces it"));
  }
  for (const auto& path : old) std::filesystem::remove(path, error);
  return absl::OkStatus();
}

// The text of the tokenizer.json to write; empty for none.
absl::StatusOr<std::string> TokenizerText(const RandomCheckpoint& options) {
  if (!options.tokenizer_path.empty())
    return shard::ReadSmallFile(options.tokenizer_path, kMaxTokenizerBytes);
  return options.shape.vocab_size >= kByteTokenizerSize ? ByteTokenizerJson() : std::string();
}

}  // namespace

absl::Status WriteRandomCheckpoint(const RandomCheckpoint& checkpoint) {
  PHI_ASSIGN_OR_RETURN(const std::string tokenizer, TokenizerText(checkpoint));
  const std::optional<uint32_t> eos_token_id = FindEndOfText(tokenizer);
  const std::string config_json = ConfigJson(checkpoint.shape, checkpoint.style, eos_token_id);
  PHI_ASSIGN_OR_RETURN(const shard::ModelConfig config, shard::ParseModelConfig(config_json));
  if (eos_token_id && *eos_token_id >= static_cast<uint32_t>(config.vocab_size)) {
    return absl::InvalidArgumentError(absl::StrCat("the tokenizer's end of text is ",
                                                   *eos_token_id,
                                                   ", but vocab_size is ",
                                                   config.vocab_size));
  }
  PHI_RETURN_IF_ERROR(ClearDirectory(checkpoint));
  PHI_RETURN_IF_ERROR(WriteWeights(checkpoint, config));
  const std::filesystem::path dir(checkpoint.dir);
  if (!tokenizer.empty()) PHI_RETURN_IF_ERROR(WriteText(dir / "tokenizer.json", tokenizer));
  return WriteText(dir / "config.json", config_json);
}

}  // namespace phi::tools
