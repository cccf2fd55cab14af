#pragma once

#include "phi/v1/generation.pb.h"
#include "service/router/router_context.h"

namespace phi::service {

// What GetModelInfo answers now.
phi::v1::GetModelInfoResponse ModelInfo(const RouterContext& context);

}  // namespace phi::service
