#pragma once

#include <vector>

namespace prometheus {
struct MetricFamily;
}

namespace phi::service {

// process_cpu_seconds_total, process_resident_memory_bytes, process_open_fds, process_max_fds and
// process_start_time_seconds of this process, from /proc; what cannot be read is left out.
std::vector<prometheus::MetricFamily> CollectProcessMetrics();

}  // namespace phi::service
