#include "shard/checkpoint/bounded_json.h"

#include <set>
#include <stdexcept>
#include <vector>

#include "kernels/base/quoted.h"

namespace phi::shard {
namespace {

// Thrown out of nlohmann's parser, whose callbacks cannot stop it in another way.
struct Refused : std::runtime_error {
  using std::runtime_error::runtime_error;
};

class Watcher {
 public:
  explicit Watcher(int max_depth) : max_depth_(max_depth) {}

  void See(int depth, nlohmann::json::parse_event_t event, const nlohmann::json& parsed) {
    using Event = nlohmann::json::parse_event_t;
    if (event == Event::object_start || event == Event::array_start) {
      if (depth >= max_depth_) throw Refused("values are nested too deep");
      keys_.resize(static_cast<size_t>(depth) + 1);
      keys_.back().clear();
    } else if (event == Event::key) {
      const auto& name = parsed.get_ref<const std::string&>();
      if (!keys_.back().insert(name).second)
        throw Refused("the key " + Quoted(name) + " comes twice");
    } else if (event == Event::object_end || event == Event::array_end) {
      keys_.resize(static_cast<size_t>(depth));
    }
  }

 private:
  const int max_depth_;
  std::vector<std::set<std::string>> keys_;  // one set for each open value
};

}  // namespace

absl::StatusOr<nlohmann::json> ParseBoundedJson(std::string_view text, int max_depth) {
  Watcher watcher(max_depth);
  const auto callback =
      [&watcher](int depth, nlohmann::json::parse_event_t event, nlohmann::json& parsed) {
        watcher.See(depth, event, parsed);
        return true;
      };
  try {
    nlohmann::json json = nlohmann::json::parse(text.begin(), text.end(), callback);
    if (!json.is_object()) return absl::InvalidArgumentError("is not a JSON object");
    return json;
  } catch (const nlohmann::json::exception& error) {
    return absl::InvalidArgumentError("is not valid JSON: " + Quoted(error.what()));
  } catch (const Refused& error) {
    return absl::InvalidArgumentError(error.what());
  }
}

}  // namespace phi::shard
