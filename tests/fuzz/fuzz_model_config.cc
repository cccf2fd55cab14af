// Any text as config.json: refused with one line, or numbers that the model can be built from.

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "kernels/base/check.h"
#include "shard/checkpoint/model_config.h"
#include "tests/fuzz/one_line.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto config = phi::shard::ParseModelConfig({reinterpret_cast<const char*>(data), size});
  if (!config.ok()) {
    phi::CheckOneLine(config.status());
    return 0;
  }
  PHI_CHECK(config->vocab_size >= 1 && config->hidden_size >= 1 && config->intermediate_size >= 1 &&
                config->num_layers >= 1 && config->max_positions >= 1,
            "an empty dimension");
  PHI_CHECK(
      config->num_key_value_heads >= 1 && config->num_heads % config->num_key_value_heads == 0,
      "%d of %d heads",
      config->num_key_value_heads,
      config->num_heads);
  PHI_CHECK(config->head_dim >= 1 && config->rotary_dim >= 0 &&
                config->rotary_dim <= config->head_dim && config->rotary_dim % 2 == 0,
            "rotary %d of %d",
            config->rotary_dim,
            config->head_dim);
  PHI_CHECK(config->layer_norm_eps > 0 && config->rope_theta > 0, "not above zero");
  return 0;
}
