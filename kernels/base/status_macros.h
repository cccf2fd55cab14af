#pragma once

#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

// Debian 12's abseil has no status macros yet; these two are all that the project uses.
#define PHI_RETURN_IF_ERROR(expr)                                                 \
  do {                                                                            \
    if (absl::Status phi_status_ = (expr); !phi_status_.ok()) return phi_status_; \
  } while (false)

#define PHI_MACRO_CONCAT_INNER(a, b) a##b
#define PHI_MACRO_CONCAT(a, b) PHI_MACRO_CONCAT_INNER(a, b)

// NOLINTBEGIN(bugprone-macro-parentheses): `lhs` may be a declaration, which takes none.
//   PHI_ASSIGN_OR_RETURN(Tokenizer tokenizer, Tokenizer::Load(path));
#define PHI_ASSIGN_OR_RETURN(lhs, expr) \
  PHI_ASSIGN_OR_RETURN_IMPL(PHI_MACRO_CONCAT(phi_statusor_, __LINE__), lhs, expr)
#define PHI_ASSIGN_OR_RETURN_IMPL(result, lhs, expr)   \
  auto result = (expr);                                \
  if (!result.ok()) return std::move(result).status(); \
  lhs = std::move(result).value()
// NOLINTEND(bugprone-macro-parentheses)
