#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "service/telemetry/metric_catalog.h"
#include "service/telemetry/metric_labels.h"

namespace prometheus {
struct MetricFamily;
}

namespace phi::service {

// The values of all possible series of one program as a flat array of atomics, in memory that the
// supervisor shares with its ranks. So metrics outlive a group (counters never go back at a
// restart), and a frozen rank cannot block a scrape. prometheus-cpp's registry lives in one
// process's heap, which is why this stands beside it; its exposition is used.
//
// Threads and processes: all writers are lock-free and may run anywhere; a reader sees each value
// whole, histograms may be off by the observations under way.
class MetricPage {
 public:
  // One series, found once and then used on hot paths. A default-made one drops what it is given.
  class Series {
   public:
    void Add(double delta) const;      // counters and gauges
    void Set(double value) const;      // gauges, and counters that count elsewhere
    void Observe(double value) const;  // histograms
    // A counter's or gauge's value; of a histogram how many observations.
    double Value() const;

   private:
    friend class MetricPage;
    std::atomic<double>* cells_ = nullptr;  // touched, then the value, or the buckets and the sum
    const MetricRow* row_ = nullptr;
  };

  // Memory of this process alone (the router).
  static absl::StatusOr<std::unique_ptr<MetricPage>> Create(int world_size);
  // Memory behind a file descriptor that children inherit (memfd); fd() gives it.
  static absl::StatusOr<std::unique_ptr<MetricPage>> CreateShared(int world_size);
  // The same page in a child.
  static absl::StatusOr<std::unique_ptr<MetricPage>> Attach(int fd, int world_size);
  ~MetricPage();
  MetricPage(const MetricPage&) = delete;
  MetricPage& operator=(const MetricPage&) = delete;

  int fd() const;  // -1 of memory that is not shared

  // `labels`: one index a label of the row: an enum of metric_labels.h, an ErrorReason, a code, the
  // rank, or the replica slot; aborts when out of range. A row without labels is exported from here
  // on, others once they were written to.
  Series Get(MetricId id, std::initializer_list<LabelIndex> labels = {}) const;

  // Exports the counters of these sources that have no label or a few closed ones as 0 from here
  // on: Prometheus's increase() cannot see a series that begins at 1.
  void ShowCounters(std::initializer_list<MetricSource> sources) const;

  // Names a free replica slot, kMaxReplicas at most (RESOURCE_EXHAUSTED); its series vanish with
  // RemoveReplica.
  absl::StatusOr<size_t> AddReplica(std::string_view name);
  void RemoveReplica(size_t slot);
  // Free-text labels of phi_build_info and phi_model_info, in the row's order; sets the value 1.
  // This process only.
  void SetInfo(MetricId id, std::vector<std::string> label_values);

  // All touched series. The state gauge of a replica is left out while it is 0.
  std::vector<prometheus::MetricFamily> Collect() const;

 private:
  struct Layout;
  MetricPage();
  std::unique_ptr<Layout> layout_;
};

inline constexpr size_t kMaxReplicas = 64;

}  // namespace phi::service
