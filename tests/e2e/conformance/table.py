"""The table: every row of the contract that a caller can see."""

import rows_bounds
import rows_calls
import rows_conditions
import rows_info
import rows_parameters
import rows_requests

ROWS = (*rows_requests.ROWS, *rows_bounds.ROWS, *rows_parameters.ROWS, *rows_conditions.ROWS, *rows_calls.ROWS)
CALLS = (*rows_parameters.CALLS, *rows_conditions.CALLS, *rows_info.CALLS, *rows_calls.CALLS)

# Reasons that no request alone brings about, and the test that shows each.
REASONS_ELSEWHERE = {
    "ALL_TOKENS_BANNED": "tests/unit/api/generation_parameters_test.cc::Row53OnlyAMaskedLoneEosBansEveryToken",
    "QUEUE_FULL": "tests/unit/worker/worker_server_test.cc::FullQueueIsRefusedWithRetryInfo",
    "TOKEN_BUDGET": "tests/unit/worker/scheduler_test.cc::QueueIsBoundedInRequestsAndTokens",
    "KV_CAPACITY": "tests/unit/worker/scheduler_test.cc::RefusesWhatIsWrongOrCanNeverRun",
    "CALLER_LIMIT": "tests/e2e/faults/test_access.py::test_row83_requests_under_way_are_limited",
    "UNAUTHENTICATED": "tests/e2e/faults/test_access.py::test_row83_without_a_known_token_only_health_answers",
    "PERMISSION_DENIED": "tests/e2e/faults/test_access.py::test_row83_a_blocked_caller_is_denied",
    "NO_READY_REPLICA": "tests/e2e/test_lifecycle.py::test_the_router_may_start_first",
    "DRAINING": "tests/unit/router/admission_test.cc::DrainingComesFirst",
    "DRAIN_TIMEOUT": "tests/e2e/test_lifecycle.py::test_a_drain_that_takes_too_long_ends_the_rest_and_exits_0",
    "REPLICA_LOST": "tests/e2e/test_lost_ranks.py::test_a_lost_rank",
    "NONFINITE_LOGITS": "tests/unit/worker/scheduler_test.cc::NonfiniteLogitsHurtOneRequestOnly",
    "INTERNAL": "tests/unit/api/error_test.cc::WhatIsNotOurReasonLeaksNothing",
}

# Reasons that nothing in this version of the API brings about: kept for what later versions add.
RESERVED_REASONS = {
    "FIELDS_CONFLICT": "no two fields exclude each other: the prompt is a oneof, which keeps the last",
}

# Sentences that a request cannot show, and the test that does.
SENTENCES_ELSEWHERE = {
    "With `n` above 1 the samples' messages come in any order": "tests/unit/router/router_samples_test.cc::EachHasItsTextAndFinishAndTheCallOneHeaderAndSummary",
    "`ALL_TOKENS_BANNED` is left to a model whose only token": "tests/unit/api/generation_parameters_test.cc::Row53OnlyAMaskedLoneEosBansEveryToken",
    "in [proto/phi/v1/generation.proto]": "tests/e2e/test_api_descriptor.py",
    "Fields are never removed, renumbered or retyped": "tests/e2e/test_api_descriptor.py",
    "Numbers are kept in `GenerationParameters`": "tests/e2e/test_api_descriptor.py",
    "No delta ends within a character.": "tests/unit/text/text_stream_test.cc::NeverEmitsHalfACharacter",
    "Never in this version of the API: beams, grammars, LoRA.": "tests/e2e/test_api_descriptor.py",
    "UNKNOWN does not occur": "tests/unit/api/error_test.cc::EveryReasonTravelsOverGrpcAndBack",
    "Nothing is allocated on a replica for a call that is refused.": "tests/unit/router/router_limits_test.cc::RefusalsNameReasonAndField",
    "A refusal that needs no tokenization costs the router less than a millisecond.": "tests/e2e/test_bad_requests.py::test_a_refusal_costs_little",
    "A reader that takes nothing for `--slow_reader_timeout` is cut off": "tests/unit/router/router_limits_test.cc::IsCutOff",
    "At a call's end there is one log line": "tests/e2e/test_metrics.py::test_one_log_line_a_call_without_its_text",
}
