"""Families about strings, lists of words, and dictionaries of text."""

from __future__ import annotations

from collections import Counter

from exercises.family import family

family("reverse_string", "[reverse|reversed|flip|backwards]_[string|text|str|word|chars|s] string_reverse <g>reversed_[string|text]", "str",
       ["Reverse <thestr>", "<give> <thestr> [in reverse order|reversed|backwards|spelled backwards]",
        "<give> a [reversed |new reversed ]copy of <thestr>", "<give> the [characters|letters] of $0 in reverse order",
        "Return $0 reversed"],
       "return $0[::-1]", lambda s: s[::-1])
family("is_palindrome", "<is>palindrome[_string|_word|_text|||] palindrome[_check|]", "word",
       ["<check> <thestr> is a palindrome", "<check> <thestr> reads the same [forwards and backwards|backwards|in both directions]",
        "<check> $0 is [equal to its reverse|the same when reversed]"],
       "return $0 == $0[::-1]", lambda s: s == s[::-1])
family("is_palindrome_ignore_case", "<is>palindrome_[ignore_case|case_insensitive|ignoring_case|any_case]", "word",
       ["<check> <thestr> is a palindrome[,|] ignoring [case|upper and lower case]"],
       """
       $0 = $0.lower()
       return $0 == $0[::-1]
       """, lambda s: s.lower() == s.lower()[::-1], make=lambda r: (r.choice(("Level", "Noon", "abc", "RADAR", "Python", "")),))
family("string_length", "[string|text|word|str]_[length|size|len] <g>[string|text]_length [length|len]_of_[string|text]", "str",
       ["<ret> the [length|number of characters] of <thestr>", "Count [the|all] characters <instr>"], "return len($0)", len)
family("to_upper", "[to_upper|upper|uppercase|to_uppercase|upper_case|make_upper|shout][_string|_text|]", "str",
       ["Convert <thestr> to [uppercase|upper case]", "<give> <thestr> in [uppercase|upper case|capital letters]"],
       "return $0.upper()", str.upper)
family("to_lower", "[to_lower|lower|lowercase|to_lowercase|lower_case|make_lower][_string|_text|]", "str",
       ["Convert <thestr> to [lowercase|lower case]", "<give> <thestr> in [lowercase|lower case|small letters]"],
       "return $0.lower()", str.lower)
family("swap_case", "[swap|flip|invert|toggle|change]_[case|cases|letter_case]", "str",
       ["[Swap|Flip|Invert] the case of [each|every|all] [letter|character|letters] <instr>",
        "<give> <thestr> with upper and lower case [swapped|exchanged]"],
       "return $0.swapcase()", str.swapcase)
family("capitalize_words", "[capitalize|title|capitalise]_[words|each_word|case|all_words|every_word]", "str",
       ["Capitalize [each|every|the first letter of each|the first letter of every] word <instr>"],
       "return ' '.join(word.capitalize() for word in $0.split())", lambda s: " ".join(w.capitalize() for w in s.split()))
family("count_words", "[count|number_of|num|how_many]_words word_count <g>word_count", "str",
       ["Count the words <instr>", "<ret> the number of words <instr>", "Return how many words [there are|are] <instr>"],
       "return len($0.split())", lambda s: len(s.split()))
family("split_words", "[split|to|list|<g>]_words words_[of|in|list] [split_text|tokenize]", "str",
       ["[Split|Break] <thestr> into [words|a list of words]", "<give> [a list of |the list of |]the words <instr>"],
       "return $0.split()", lambda s: s.split())
family("reverse_words", "reverse_[words|word_order|sentence|order_of_words] <g>reversed_[words|sentence]", "str",
       ["Reverse the [order of the words|order of words|word order|words] <instr>",
        "<give> <thestr> with its words in reverse order"],
       "return ' '.join($0.split()[::-1])", lambda s: " ".join(s.split()[::-1]))
family("reverse_each_word", "reverse_[each|every|all]_[word|words] [flip|mirror]_[each_word|words]", "str",
       ["Reverse [each|every] word <instr>[, keeping the word order| but keep the order of the words|]"],
       "return ' '.join(word[::-1] for word in $0.split())", lambda s: " ".join(w[::-1] for w in s.split()))
family("longest_word", "[longest|<g>longest|max]_[word|word_in_text|word_of] [find_the|the]_longest_word", "str",
       ["<ret> the longest word <instr>", "<ret> the [longest word|word with the most letters] of <thestr>"],
       "return max($0.split(), key=len)", lambda s: max(s.split(), key=len))
family("shortest_word", "[shortest|<g>shortest|min]_[word|word_in_text|word_of] [find_the|the]_shortest_word", "str",
       ["<ret> the shortest word <instr>", "<ret> the [shortest word|word with the fewest letters] of <thestr>"],
       "return min($0.split(), key=len)", lambda s: min(s.split(), key=len))
family("word_lengths", "[word_lengths|lengths_of_words|<g>word_lengths|lengths|length_of_each]", "strs",
       ["<give> [a list of |the list of |]the lengths of [the |all |all the ||][words|strings] [in|of] $0",
        "<give> a list with the length of [each|every] [word|string] [in|of] $0"],
       "return [len(word) for word in $0]", lambda v: [len(w) for w in v])
family("longest_string", "[longest|max]_[string|item|of_words|element|in_list] <g>longest[_string|]", "strs1",
       ["<ret> the longest [string|word|item] [in|of] [$0|the list|a list of strings|the list $0]"],
       "return max($0, key=len)", lambda v: max(v, key=len))
family("shortest_string", "[shortest|min]_[string|item|of_words|element|in_list] <g>shortest[_string|]", "strs1",
       ["<ret> the shortest [string|word|item] [in|of] [$0|the list|a list of strings|the list $0]"],
       "return min($0, key=len)", lambda v: min(v, key=len))
family("join_strings", "[join|concat|concatenate|combine]_[strings|words|list|all|with_spaces]", "strs",
       ["[Join|Concatenate|Combine] [the |all |all the |]strings [in|of] $0 [with|separated by|using] [spaces|a space|single spaces]",
        "<give> [the |]words [of|in] $0 joined [by|with] [spaces|a space]"],
       "return ' '.join($0)", " ".join)
family("join_comma", "[join|list]_[commas|with_commas|comma|with_comma] comma_separated to_csv", "strs",
       ["[Join|Concatenate|Combine] [the |all |all the |]strings [in|of] $0 [with|separated by|using] [commas|a comma]",
        "<give> [the |]words [of|in] $0 [separated|joined] by commas"],
       "return ','.join($0)", ",".join)
family("concat_strings", "[concat|concatenate|join|add|glue]_[strings|two_strings|two|texts]", "word:a,s,first,left word:b,t,second,right",
       ["[Concatenate|Join|Glue together] [two strings|$0 and $1|the strings $0 and $1]", "<give> $0 followed by $1"],
       "return $0 + $1", lambda a, b: a + b)
family("repeat_string", "[repeat|multiply|duplicate|replicate]_[string|text|word|str]", "word:s,text,word small:n,times,count,k",
       ["Repeat [$0|the string $0] $1 times", "<give> $0 repeated $1 times", "<give> $1 copies of $0 [in a row|joined together|]"],
       "return $0 * $1", lambda s, n: s * n)
family("starts_with", "[starts_with|begins_with|has_prefix|is_prefix|check_prefix]", "word:s,text,word word:prefix,start,p",
       ["<check> $0 [starts|begins] with $1", "<check> $1 is a prefix of $0"], "return $0.startswith($1)",
       lambda s, p: s.startswith(p), make=lambda r: (r.choice(("apple", "banana", "")), r.choice(("a", "ap", "ban", "x"))))
family("ends_with", "[ends_with|has_suffix|is_suffix|check_suffix|finishes_with]", "word:s,text,word word:suffix,ending,p",
       ["<check> $0 ends with $1", "<check> $1 is a suffix of $0"], "return $0.endswith($1)",
       lambda s, p: s.endswith(p), make=lambda r: (r.choice(("apple", "banana", "")), r.choice(("e", "le", "na", "x"))))
family("contains_substring", "[contains|has|includes]_[substring|text|string] is_substring", "word:s,text,string word:sub,part,pattern,t",
       ["<check> $0 contains [the substring |the string |]$1", "<check> $1 is [a substring of|contained in] $0"],
       "return $1 in $0", lambda s, t: t in s, make=lambda r: (r.choice(("apple", "banana", "")), r.choice(("an", "le", "na", "x"))))
family("first_char", "[first|<g>first|initial]_[char|character|letter|symbol]", "word",
       ["<ret> the first [character|letter] of <thestr>"], "return $0[0]", lambda s: s[0])
family("last_char", "[last|<g>last|final]_[char|character|letter|symbol]", "word",
       ["<ret> the last [character|letter] of <thestr>"], "return $0[-1]", lambda s: s[-1])
family("middle_char", "[middle|<g>middle|centre|center]_[char|character|letter]", "word",
       ["<ret> the middle [character|letter] of <thestr>"], "return $0[len($0) // 2]", lambda s: s[len(s) // 2])
family("unique_chars", "[unique|distinct]_[chars|characters|letters] [count_unique|count_distinct]_[chars|characters|letters]", "word",
       ["<ret> the number of [unique|distinct|different] [characters|letters] <instr>",
        "Count [the |][unique|distinct|different] [characters|letters] <instr>"],
       "return len(set($0))", lambda s: len(set(s)))
family("all_unique", "[has|all|is|are_all]_[unique|distinct]_[chars|characters|letters]", "word",
       ["<check> [all|all the] [characters|letters] <instr> are [unique|distinct|different]",
        "<check> no [character|letter] [appears twice|is repeated|occurs more than once] <instr>"],
       "return len(set($0)) == len($0)", lambda s: len(set(s)) == len(s))
family("is_anagram", "<is>anagram[s||_of||] are_anagrams check_anagrams", "word:a,s,first,word1 word:b,t,second,word2",
       ["<check> $0 and $1 are anagrams[ of each other|]", "<check> [two strings|two words|the two strings] are anagrams[ of each other|]",
        "<check> $0 is an anagram of $1"],
       "return sorted($0) == sorted($1)", lambda a, b: sorted(a) == sorted(b),
       make=lambda r: r.choice((("listen", "silent"), ("abc", "cab"), ("aab", "abb"), ("dog", "cat"), ("", "a"))))
family("sort_chars", "[sort|order|sorted]_[chars|characters|letters|string] alphabetize", "word",
       ["Sort the [characters|letters] [of|in] <thestr> [alphabetically|in alphabetical order|]",
        "<give> the [characters|letters] [of|in] $0 in alphabetical order"],
       "return ''.join(sorted($0))", lambda s: "".join(sorted(s)))
family("sort_words", "[sort|order|sorted]_[words|strings|names|alphabetically]", "strs",
       ["Sort [the words in $0|$0|a list of words|the list of strings] [alphabetically|in alphabetical order]"],
       "return sorted($0)", sorted)
family("sort_by_length", "[sort|order|sorted]_[by_length|by_size|by_len|words_by_length]", "strs",
       ["Sort [the words in $0|$0|a list of words|the list of strings] by [length|their length]",
        "<give> the [words|strings] [of|in] $0 ordered by length"],
       "return sorted($0, key=len)", lambda v: sorted(v, key=len))
family("char_frequency", "[char|character|letter|count]_[frequency|frequencies|counts|chars|letters] <g>[char|letter]_counts", "word",
       ["<give> a [dictionary|dict] [with|of] [the |how often each character occurs, that is the |]counts of [each|every] [character|letter] <instr>",
        "Count how [often|many times] [each|every] [character|letter] [appears|occurs] <instr>",
        "<give> a [dictionary|dict] that maps [each|every] [character|letter] <instr> to its [count|number of occurrences]"],
       """
       counts = {}
       for ch in $0:
           counts[ch] = counts.get(ch, 0) + 1
       return counts
       """, lambda s: dict(Counter(s)))
family("word_frequency", "[word|words|count]_[frequency|frequencies|counts|occurrences] <g>word_counts", "str",
       ["<give> a [dictionary|dict] [with|of] the counts of [each|every] word <instr>",
        "Count how [often|many times] [each|every] word [appears|occurs] <instr>",
        "<give> a [dictionary|dict] that maps [each|every] word <instr> to its [count|number of occurrences]"],
       """
       counts = {}
       for word in $0.split():
           counts[word] = counts.get(word, 0) + 1
       return counts
       """, lambda s: dict(Counter(s.split())))
family("most_common_char", "[most_common|most_frequent]_[char|character|letter] <g>[most_common|most_frequent]_letter", "word",
       ["<ret> the most [common|frequent] [character|letter] <instr>",
        "<ret> the [character|letter] that [appears|occurs] most often <instr>"],
       "return max($0, key=$0.count)", lambda s: max(s, key=s.count))
family("replace_spaces", "replace_[spaces|blanks|space] spaces_to_[underscores|underscore] [underscore|underscores]", "str",
       ["Replace [all|the|all the|every] [spaces|space] <instr> [with|by] underscores"],
       "return $0.replace(' ', '_')", lambda s: s.replace(" ", "_"))
family("remove_spaces", "[remove|delete|strip|drop]_[spaces|blanks|all_spaces|whitespace]", "str",
       ["Remove [all|the|all the|every] [spaces|space] [from|in] <thestr>", "<give> <thestr> without [any |]spaces"],
       "return $0.replace(' ', '')", lambda s: s.replace(" ", ""))
family("initials", "[initials|<g>initials|first_letters|acronym|make_acronym|abbreviate][_of|_of_words|]", "str",
       ["<give> the [initials|first letters] of [the |all |]words <instr> [as a string|]",
        "<give> a string [of|with] the first letter of [each|every] word <instr>"],
       "return ''.join(word[0] for word in $0.split())", lambda s: "".join(w[0] for w in s.split()))
family("string_to_list", "[string|text|word]_to_[list|chars|characters] [list_of|to|<g>]_[chars|characters]", "word",
       ["Convert <thestr> to a list of [its |]characters", "<give> [a list of |]the characters of <thestr>"],
       "return list($0)", list)
family("caesar_shift", "[caesar|caesar_cipher|caesar_shift|shift_letters|encrypt_caesar|rotate_letters]", "word:s,text,message small:k,shift,n,key",
       ["[Shift|Move] [each|every] [lowercase |]letter of $0 [by $1 places|$1 places forward] in the alphabet",
        "[Encrypt|Encode] $0 with a Caesar [cipher|shift] of $1"],
       """
       result = ''
       for ch in $0:
           result += chr((ord(ch) - ord('a') + $1) % 26 + ord('a'))
       return result
       """, lambda s, k: "".join(chr((ord(c) - 97 + k) % 26 + 97) for c in s))
family("run_length", "[run_length|run_length_encode|rle|compress|encode_runs|compress_string]", "word",
       ["[Compress|Encode] <thestr> [with|by|using] run-length encoding[, so that 'aab' becomes 'a2b1'|]",
        "<give> the run-length encoding of <thestr>"],
       """
       result = ''
       i = 0
       while i < len($0):
           j = i
           while j < len($0) and $0[j] == $0[i]:
               j += 1
           result += $0[i] + str(j - i)
           i = j
       return result
       """, lambda s: _rle(s), make=lambda r: ("".join(r.choice("ab") * r.randint(1, 3) for _ in range(r.randint(0, 4))),))
family("balanced", "<is>balanced[_parentheses|_brackets|] [balanced|valid|matching]_[parentheses|brackets|parens]", "word:s,text,string",
       ["<check> the [parentheses|brackets] <instr> are [balanced|matched]", "<check> [every|each] opening parenthesis [in $0 |]is closed"],
       """
       depth = 0
       for ch in $0:
           if ch == '(':
               depth += 1
           elif ch == ')':
               depth -= 1
           if depth < 0:
               return False
       return depth == 0
       """, lambda s: _balanced(s), make=lambda r: ("".join(r.choice("()") for _ in range(r.choice((0, 2, 2, 4, 4, 6)))),))
family("count_char", "[count_char|count_letter|count_character|char_count|letter_count|occurrences_of_char][_in|_in_string|]", "str char",
       ["[Count how many times|Count how often|Return how many times] [the character |the letter |]$1 [occurs|appears] in $0",
        "<ret> the number of [occurrences of $1|times $1 appears] in $0"],
       """
       count = 0
       for char in $0:
           if char == $1:
               count += 1
       return count
       """, lambda s, c: s.count(c))
family("remove_char", "[remove|delete|drop|strip]_[char|character|letter|all_of|all]", "str char",
       ["Remove [all|every] [occurrences|occurrence] of [the character |]$1 [from|in] $0", "<give> $0 without [the character|the letter|any] $1"],
       "return $0.replace($1, '')", lambda s, c: s.replace(c, ""))
family("index_of_char", "[index_of|find|position_of|<g>index_of]_[char|letter|character]", "word char",
       ["<ret> the [index|position] of [the first |the character |]$1 in $0, or -1 if it is [missing|not there|not found]"],
       "return $0.find($1)", lambda s, c: s.find(c))
family("same_first_last", "[same|equal]_[first_last|ends|first_and_last] [starts_and_ends|first_last]_same", "word",
       ["<check> the first and [the |]last [characters|letters] of <thestr> are [equal|the same]",
        "<check> <thestr> [starts and ends|begins and ends] with the same [character|letter]"],
       "return $0[0] == $0[-1]", lambda s: s[0] == s[-1])
family("filter_by_length", "[filter|keep|select]_[by_length|long|longer|long_words] words_longer_than", "strs pos:n,k,length,limit",
       ["<give> [a list of |]the [words|strings] [in|of] $0 [that are |]longer than $1[ characters|]",
        "[Keep|Select] the [words|strings] of $0 [with|that have] more than $1 [characters|letters]"],
       "return [word for word in $0 if len(word) > $1]", lambda v, n: [w for w in v if len(w) > n],
       make=lambda r: (r.sample(("a", "bc", "apple", "kiwi", "sun"), 3), r.randint(1, 5)))
family("filter_prefix", "[filter|keep|select|words]_[by_prefix|prefix|starting_with|that_start_with]", "strs word:prefix,start,p",
       ["<give> [a list of |]the [words|strings] [in|of] $0 that [start|begin] with $1"],
       "return [word for word in $0 if word.startswith($1)]", lambda v, p: [w for w in v if w.startswith(p)],
       make=lambda r: (r.sample(("apple", "bc", "avocado", "kiwi", "sun"), 3), r.choice("abks")))
family("upper_words", "[upper|uppercase|capitalize]_[all|list|strings|each] [all|list]_to_upper", "strs",
       ["<give> [a list of |]the [words|strings] [in|of] $0 in [uppercase|upper case]", "Convert [all|all the|every] [words|strings|word] [in|of] $0 to [uppercase|upper case]"],
       "return [word.upper() for word in $0]", lambda v: [w.upper() for w in v])
family("total_length", "[total|sum|combined]_[length|lengths|characters|chars] [count_all|sum_of]_[chars|lengths]", "strs",
       ["<ret> the [total|combined] [length|number of characters] of [the |all |all the ][words|strings] [in|of] $0"],
       "return sum(len(word) for word in $0)", lambda v: sum(map(len, v)))
family("greeting", "[make|build|create|<g>]_[greeting|hello|welcome] greeting[_for|]", "word:name,person,user,who",
       ["<give> [a greeting|a greeting string] for $0", "Return 'Hello, ' followed by $0 and an exclamation mark", "<give> a greeting [like|such as] 'Hello, Ada!' for $0"],
       "return 'Hello, ' + $0 + '!'", lambda s: f"Hello, {s}!")


def _rle(text: str) -> str:
    result = []
    for ch in text:
        if result and result[-1][0] == ch:
            result[-1][1] += 1
        else:
            result.append([ch, 1])
    return "".join(f"{ch}{count}" for ch, count in result)


def _balanced(text: str) -> bool:
    while "()" in text:
        text = text.replace("()", "")
    return not text
