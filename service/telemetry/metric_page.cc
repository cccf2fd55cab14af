#include "service/telemetry/metric_page.h"

#include <prometheus/metric_family.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <limits>
#include <mutex>
#include <optional>
#include <utility>

#include "absl/strings/str_format.h"
#include "kernels/base/check.h"
#include "kernels/base/status_macros.h"

namespace phi::service {
namespace {

using Cell = std::atomic<double>;
static_assert(Cell::is_always_lock_free && sizeof(Cell) == sizeof(double),
              "shared between processes");

constexpr size_t kNumMetrics = static_cast<size_t>(MetricId::kNumMetrics);

size_t LabelSize(const MetricLabel& label, int world_size) {
  switch (label.kind) {
    case LabelKind::kValues:
      return label.values.size();
    case LabelKind::kRank:
      return static_cast<size_t>(world_size);
    case LabelKind::kReplica:
      return kMaxReplicas;
    case LabelKind::kInfo:
      return 1;
  }
  return 1;
}

size_t CellsPerSeries(const MetricRow& row) {
  // Touched, then either the value, or the buckets, the one above them all, and the sum.
  return row.type == MetricType::kHistogram ? row.buckets.size() + 3 : 2;
}

prometheus::MetricType ToPrometheus(MetricType type) {
  switch (type) {
    case MetricType::kCounter:
      return prometheus::MetricType::Counter;
    case MetricType::kGauge:
      return prometheus::MetricType::Gauge;
    case MetricType::kHistogram:
      return prometheus::MetricType::Histogram;
  }
  return prometheus::MetricType::Untyped;
}

absl::Status SystemError(std::string_view what) {
  return absl::InternalError(absl::StrFormat("%s: errno %d", what, errno));
}

}  // namespace

struct MetricPage::Layout {
  int world_size = 1;
  int fd = -1;
  Cell* cells = nullptr;
  size_t num_cells = 0;
  std::array<size_t, kNumMetrics> first_cell{};
  std::array<size_t, kNumMetrics> num_series{};

  mutable std::mutex mutex;  // over the names below; the cells need none
  std::array<std::string, kMaxReplicas> replicas;
  std::array<std::vector<std::string>, kNumMetrics> infos;

  explicit Layout(int ranks) : world_size(ranks) {
    for (const MetricRow& row : MetricCatalog()) {
      const auto i = static_cast<size_t>(row.id);
      num_series[i] = 1;
      for (const MetricLabel& label : row.labels) num_series[i] *= LabelSize(label, world_size);
      first_cell[i] = num_cells;
      num_cells += num_series[i] * CellsPerSeries(row);
    }
  }
  ~Layout() {
    if (cells != nullptr) ::munmap(cells, num_bytes());
    if (fd >= 0) ::close(fd);
  }
  Layout(const Layout&) = delete;
  Layout& operator=(const Layout&) = delete;

  size_t num_bytes() const { return num_cells * sizeof(Cell); }

  // Fresh pages are zero, which is what a cell starts at.
  absl::Status Map() {
    const int flags = fd >= 0 ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS;
    void* memory = ::mmap(nullptr, num_bytes(), PROT_READ | PROT_WRITE, flags, fd, 0);
    if (memory == MAP_FAILED) return SystemError("cannot map the metric page");
    cells = static_cast<Cell*>(memory);
    return absl::OkStatus();
  }

  Cell* SeriesCells(const MetricRow& row, size_t series) const {
    return cells + first_cell[static_cast<size_t>(row.id)] + series * CellsPerSeries(row);
  }

  // The labels of one series, or nothing when it is not to be seen.
  std::optional<std::vector<prometheus::ClientMetric::Label>> Labels(const MetricRow& row,
                                                                     size_t series) const;
  void AppendMetric(const MetricRow& row, size_t series, prometheus::MetricFamily& family) const;
};

std::optional<std::vector<prometheus::ClientMetric::Label>> MetricPage::Layout::Labels(
    const MetricRow& row, size_t series) const {
  std::vector<prometheus::ClientMetric::Label> labels(row.labels.size());
  const auto& info = infos[static_cast<size_t>(row.id)];
  // The last label varies fastest, so the index is taken apart from the end.
  for (size_t i = row.labels.size(); i-- > 0;) {
    const MetricLabel& label = row.labels[i];
    const size_t size = LabelSize(label, world_size);
    const size_t index = series % size;
    series /= size;
    labels[i].name = std::string(label.name);
    switch (label.kind) {
      case LabelKind::kValues:
        labels[i].value = std::string(label.values[index]);
        break;
      case LabelKind::kRank:
        labels[i].value = std::to_string(index);
        break;
      case LabelKind::kReplica:
        if (replicas[index].empty()) return std::nullopt;
        labels[i].value = replicas[index];
        break;
      case LabelKind::kInfo:
        if (info.size() != row.labels.size()) return std::nullopt;
        labels[i].value = info[i];
        break;
    }
  }
  return labels;
}

void MetricPage::Layout::AppendMetric(const MetricRow& row,
                                      size_t series,
                                      prometheus::MetricFamily& family) const {
  const Cell* cell = SeriesCells(row, series);
  if (cell[0].load(std::memory_order_relaxed) == 0) return;
  auto labels = Labels(row, series);
  if (!labels) return;
  prometheus::ClientMetric metric;
  metric.label = *std::move(labels);
  const double value = cell[1].load(std::memory_order_relaxed);
  if (row.type == MetricType::kCounter) {
    metric.counter.value = value;
  } else if (row.type == MetricType::kGauge) {
    if (value == 0 && row.id == MetricId::kRouterReplicaState) return;
    metric.gauge.value = value;
  } else {
    uint64_t count = 0;
    for (size_t i = 0; i <= row.buckets.size(); ++i) {
      count += static_cast<uint64_t>(cell[1 + i].load(std::memory_order_relaxed));
      const double bound =
          i < row.buckets.size() ? row.buckets[i] : std::numeric_limits<double>::infinity();
      metric.histogram.bucket.push_back({count, bound});
    }
    metric.histogram.sample_count = count;
    metric.histogram.sample_sum = cell[2 + row.buckets.size()].load(std::memory_order_relaxed);
  }
  family.metric.push_back(std::move(metric));
}

MetricPage::MetricPage() = default;
MetricPage::~MetricPage() = default;

absl::StatusOr<std::unique_ptr<MetricPage>> MetricPage::Create(int world_size) {
  if (world_size < 1) return absl::InvalidArgumentError("a metric page needs at least one rank");
  std::unique_ptr<MetricPage> page(new MetricPage);
  page->layout_ = std::make_unique<Layout>(world_size);
  PHI_RETURN_IF_ERROR(page->layout_->Map());
  return page;
}

absl::StatusOr<std::unique_ptr<MetricPage>> MetricPage::CreateShared(int world_size) {
  if (world_size < 1) return absl::InvalidArgumentError("a metric page needs at least one rank");
  std::unique_ptr<MetricPage> page(new MetricPage);
  page->layout_ = std::make_unique<Layout>(world_size);
  Layout& layout = *page->layout_;
  layout.fd = ::memfd_create("phi_metrics", MFD_CLOEXEC);
  if (layout.fd < 0) return SystemError("cannot make the metric page");
  if (::ftruncate(layout.fd, static_cast<off_t>(layout.num_bytes())) != 0) {
    return SystemError("cannot size the metric page");
  }
  PHI_RETURN_IF_ERROR(layout.Map());
  return page;
}

absl::StatusOr<std::unique_ptr<MetricPage>> MetricPage::Attach(int fd, int world_size) {
  if (world_size < 1) return absl::InvalidArgumentError("a metric page needs at least one rank");
  std::unique_ptr<MetricPage> page(new MetricPage);
  page->layout_ = std::make_unique<Layout>(world_size);
  Layout& layout = *page->layout_;
  struct stat status = {};
  if (::fstat(fd, &status) != 0) return SystemError("cannot look at the metric page");
  // Another size is another build's or another group's page: writing there would hit foreign cells.
  if (static_cast<size_t>(status.st_size) != layout.num_bytes()) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "the metric page has %d bytes instead of %d", status.st_size, layout.num_bytes()));
  }
  layout.fd = fd;
  PHI_RETURN_IF_ERROR(layout.Map());
  return page;
}

int MetricPage::fd() const { return layout_->fd; }

MetricPage::Series MetricPage::Get(MetricId id, std::initializer_list<LabelIndex> labels) const {
  const MetricRow& row = MetricInfo(id);
  PHI_CHECK(labels.size() == row.labels.size(),
            "%s has %zu labels, not %zu",
            row.name.data(),
            row.labels.size(),
            labels.size());
  size_t series = 0;
  size_t i = 0;
  for (const LabelIndex label : labels) {
    const size_t size = LabelSize(row.labels[i++], layout_->world_size);
    PHI_CHECK(label.value() < size,
              "%s: label %zu is %zu of %zu",
              row.name.data(),
              i - 1,
              label.value(),
              size);
    series = series * size + label.value();
  }
  Series result;
  result.cells_ = layout_->SeriesCells(row, series);
  result.row_ = &row;
  if (row.labels.empty()) result.cells_[0].store(1, std::memory_order_relaxed);
  return result;
}

void MetricPage::ShowCounters(std::initializer_list<MetricSource> sources) const {
  constexpr size_t kFew = 8;
  for (const MetricRow& row : MetricCatalog()) {
    const bool wanted = std::find(sources.begin(), sources.end(), row.source) != sources.end();
    const bool closed = std::all_of(row.labels.begin(), row.labels.end(), [](const auto& label) {
      return label.kind == LabelKind::kValues;
    });
    const size_t num_series = layout_->num_series[static_cast<size_t>(row.id)];
    if (!wanted || !closed || row.type != MetricType::kCounter || num_series > kFew) continue;
    for (size_t i = 0; i < num_series; ++i) {
      layout_->SeriesCells(row, i)[0].store(1, std::memory_order_relaxed);
    }
  }
}

absl::StatusOr<size_t> MetricPage::AddReplica(std::string_view name) {
  PHI_CHECK(!name.empty(), "a replica needs a name");
  const std::lock_guard lock(layout_->mutex);
  for (size_t slot = 0; slot < kMaxReplicas; ++slot) {
    if (!layout_->replicas[slot].empty()) continue;
    layout_->replicas[slot] = std::string(name);
    return slot;
  }
  return absl::ResourceExhaustedError(
      absl::StrFormat("more than %d replicas cannot be told apart in metrics", kMaxReplicas));
}

void MetricPage::RemoveReplica(size_t slot) {
  PHI_CHECK(slot < kMaxReplicas, "replica slot %zu", slot);
  const std::lock_guard lock(layout_->mutex);
  layout_->replicas[slot].clear();
  for (const MetricRow& row : MetricCatalog()) {
    if (row.labels.empty() || row.labels[0].kind != LabelKind::kReplica) continue;
    const size_t per_slot = layout_->num_series[static_cast<size_t>(row.id)] / kMaxReplicas;
    Cell* cells = layout_->SeriesCells(row, slot * per_slot);
    for (size_t i = 0; i < per_slot * CellsPerSeries(row); ++i) cells[i].store(0);
  }
}

void MetricPage::SetInfo(MetricId id, std::vector<std::string> label_values) {
  const MetricRow& row = MetricInfo(id);
  PHI_CHECK(!row.labels.empty() && row.labels[0].kind == LabelKind::kInfo &&
                label_values.size() == row.labels.size(),
            "%s: %zu values",
            row.name.data(),
            label_values.size());
  const std::lock_guard lock(layout_->mutex);
  layout_->infos[static_cast<size_t>(id)] = std::move(label_values);
  Cell* cells = layout_->SeriesCells(row, 0);
  cells[0].store(1, std::memory_order_relaxed);
  cells[1].store(1, std::memory_order_relaxed);
}

std::vector<prometheus::MetricFamily> MetricPage::Collect() const {
  const std::lock_guard lock(layout_->mutex);
  std::vector<prometheus::MetricFamily> families;
  for (const MetricRow& row : MetricCatalog()) {
    prometheus::MetricFamily family;
    family.name = std::string(row.name);
    family.help = std::string(row.help);
    family.type = ToPrometheus(row.type);
    const size_t num_series = layout_->num_series[static_cast<size_t>(row.id)];
    for (size_t i = 0; i < num_series; ++i) layout_->AppendMetric(row, i, family);
    if (!family.metric.empty()) families.push_back(std::move(family));
  }
  return families;
}

void MetricPage::Series::Add(double delta) const {
  if (cells_ == nullptr) return;
  cells_[1].fetch_add(delta, std::memory_order_relaxed);
  cells_[0].store(1, std::memory_order_relaxed);
}

void MetricPage::Series::Set(double value) const {
  if (cells_ == nullptr) return;
  cells_[1].store(value, std::memory_order_relaxed);
  cells_[0].store(1, std::memory_order_relaxed);
}

void MetricPage::Series::Observe(double value) const {
  if (cells_ == nullptr) return;
  const auto& buckets = row_->buckets;
  const auto bucket = static_cast<size_t>(std::lower_bound(buckets.begin(), buckets.end(), value) -
                                          buckets.begin());
  cells_[1 + bucket].fetch_add(1, std::memory_order_relaxed);
  cells_[2 + buckets.size()].fetch_add(value, std::memory_order_relaxed);
  cells_[0].store(1, std::memory_order_relaxed);
}

double MetricPage::Series::Value() const {
  if (cells_ == nullptr) return 0;
  if (row_->type != MetricType::kHistogram) return cells_[1].load(std::memory_order_relaxed);
  double count = 0;
  for (size_t i = 0; i <= row_->buckets.size(); ++i) {
    count += cells_[1 + i].load(std::memory_order_relaxed);
  }
  return count;
}

}  // namespace phi::service
