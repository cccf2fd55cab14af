#include "tools/api_docs/parameter_meanings.h"

#include <array>

namespace phi::tools {
namespace {

constexpr std::array kMeanings = {
    ParameterMeaning{"max_new_tokens",
                     "How many tokens may be generated. Unset, it is the default or what the "
                     "context leaves, and the "
                     "finish reason is then `CONTEXT_LENGTH`. Set, prompt and this number have to "
                     "fit the context "
                     "together, else `CONTEXT_EXCEEDED` with both counts."},
    ParameterMeaning{
        "min_new_tokens",
        "Until that many, `<|endoftext|>` cannot be drawn and no stop ends the text. Not above "
        "`max_new_tokens`."},
    ParameterMeaning{"temperature",
                     "0 is greedy: the highest logit, and on a tie the lowest id. Above, logits "
                     "are divided by it."},
    ParameterMeaning{"top_k", "Only the so many most likely tokens may be drawn; 0: all."},
    ParameterMeaning{"top_p",
                     "Only the smallest set of most likely tokens may be drawn whose probabilities "
                     "sum up to it."},
    ParameterMeaning{
        "min_p", "Only tokens at least so likely, relative to the most likely one, may be drawn."},
    ParameterMeaning{"repetition_penalty",
                     "Logits of tokens in prompt or output are divided by it where positive and "
                     "multiplied where "
                     "negative, as Hugging Face does. 1: none."},
    ParameterMeaning{"frequency_penalty",
                     "Taken off a token's logit for each time it stands in the output."},
    ParameterMeaning{"presence_penalty", "Taken off a token's logit once it stands in the output."},
    ParameterMeaning{"logit_bias", "Added to the logits of these token ids."},
    ParameterMeaning{
        "seed",
        "The same seed draws the same tokens, whatever else runs. Unset: a random one, "
        "which the header tells. On GPUs the first takes --batch_invariant."},
    ParameterMeaning{"n", "Samples that share one prefill; sample i draws with (seed, i)."},
    ParameterMeaning{
        "stop",
        "Looked for in generated text only. The earliest match ends the text, before the match."},
    ParameterMeaning{"stop_token_ids", "A token that ends the text; it stays in the token ids."},
    ParameterMeaning{"stop_conditions",
                     "Ends for code. `LINE_END`: the first line is whole. `BLANK_LINE`. `DEDENT`: "
                     "a non-blank line "
                     "indented less than the prompt's last non-blank line or, where that one ends "
                     "in a colon, than the first non-blank line after it. "
                     "`TOP_LEVEL`: a non-blank line at column 0."},
    ParameterMeaning{"include_stop", "Keep the matched stop in the text."},
    ParameterMeaning{"ignore_eos", "Go on after `<|endoftext|>`."},
    ParameterMeaning{
        "logprobs",
        "Log-probabilities of the chosen token and of that many most likely real tokens: "
        "log-softmax "
        "over all rows of the head, before penalties, bias and temperature. Unset: none; 0: of the "
        "chosen token only."},
    ParameterMeaning{"truncate_prompt", "Keep only that many tokens from the prompt's end."},
    ParameterMeaning{"time_limit",
                     "Counted from the call's arrival. Once it has passed, a call that has a token "
                     "ends well with "
                     "`TIME_LIMIT` and the text so far. Unset: the router's `--max_time_limit`."},
};

}  // namespace

std::span<const ParameterMeaning> ParameterMeanings() { return kMeanings; }

}  // namespace phi::tools
