"""Families about one list of numbers: aggregates, parts, sorting and searching."""

from __future__ import annotations

import math

from exercises.family import family

_N = "[numbers|values|elements|integers|items]"

family("sum_list", "[sum|total|add]_[list|numbers|values|elements|all|items|array|up] list_sum array_sum <g>[sum|total][<of>|]",
       "ints",
       [f"<ret> the [sum|total] of <all>{_N} <inlist>", f"[Sum|Add|Add up|Sum up] <all>{_N} <inlist>",
        "<ret> the [sum|total] of <thelist>", f"<ret> the [sum|total] of a [list|sequence] of {_N}",
        "<ret> the sum of $0"],
       """
       total = 0
       for num in $0:
           total += num
       return total
       """, sum)
family("product_list", "[product|multiply|prod]_[list|numbers|values|elements|all|items|array] list_product <g>product[<of>|]", "ints",
       [f"<ret> the product of <all>{_N} <inlist>", f"Multiply [together |]<all>{_N} <inlist>",
        "<ret> the product of <thelist>", f"<ret> the product of a [list|sequence] of {_N}", "<ret> the product of $0"],
       """
       product = 1
       for num in $0:
           product *= num
       return product
       """, math.prod)
family("average_list", "[average|mean|avg]_[list|numbers|values|elements|items|array|of_list] list_average <g>[average|mean][<of>|]", "ints1",
       [f"<ret> the [average|mean|arithmetic mean] of <all>{_N} <inlist>",
        f"<ret> the [average|mean] [value |]of a [non-empty |][list|sequence] of {_N}",
        "<ret> the [average|mean] [value |]of <thelist>"],
       "return sum($0) / len($0)", lambda v: sum(v) / len(v))
family("max_list", "[max|maximum|largest|biggest|greatest]_[list|number|value|element|item|in_list|of_list] list_max <g>[max|maximum|largest|biggest][<of>|]", "ints1",
       ["<ret> the [largest|biggest|maximum|greatest|highest] [number|value|element|integer|item] <inlist>",
        "<ret> the [maximum|largest element|biggest element|maximum element] of <thelist>",
        f"<ret> the [largest|maximum|biggest|greatest] of <all>{_N} <inlist>", "<ret> the [max|maximum] of $0",
        "Find the [biggest|largest|greatest] [number|value|element] <inlist>"],
       """
       largest = $0[0]
       for num in $0:
           if num > largest:
               largest = num
       return largest
       """, max)
family("min_list", "[min|minimum|smallest|least|lowest]_[list|number|value|element|item|in_list|of_list] list_min <g>[min|minimum|smallest][<of>|]", "ints1",
       ["<ret> the [smallest|minimum|lowest|least] [number|value|element|integer|item] <inlist>",
        "<ret> the [minimum|smallest element|minimum element] of <thelist>",
        f"<ret> the [smallest|minimum|lowest|least] of <all>{_N} <inlist>", "<ret> the [min|minimum] of $0",
        "Find the [smallest|lowest|least] [number|value|element] <inlist>"],
       """
       smallest = $0[0]
       for num in $0:
           if num < smallest:
               smallest = num
       return smallest
       """, min)
family("range_of_list", "[spread|<g>spread|max_min_diff|max_minus_min|difference_max_min|value_range|list_range]", "ints1",
       ["<ret> the difference between the [largest|maximum|biggest] and the [smallest|minimum|lowest] [number|value|element] <inlist>",
        "<ret> the [maximum|largest] minus the [minimum|smallest] of <thelist>"],
       "return max($0) - min($0)", lambda v: max(v) - min(v))
family("sum_max_min", "[sum_max_min|max_plus_min|add_max_min|min_max_sum|extremes_sum]", "ints1",
       ["<ret> the sum of the [largest|maximum|biggest] and the [smallest|minimum|lowest] [number|value|element] <inlist>",
        "<ret> the [maximum|largest] plus the [minimum|smallest] of <thelist>"],
       "return max($0) + min($0)", lambda v: max(v) + min(v))
family("min_max", "[min_max|min_and_max|<g>min_max|<g>extremes|smallest_largest|bounds]", "ints1",
       ["<ret> [a tuple of |a tuple with |]the [smallest|minimum] and the [largest|maximum] [number|value|element] <inlist>",
        "<ret> the [minimum and maximum|min and max] of <thelist>[ as a tuple|]"],
       "return min($0), max($0)", lambda v: (min(v), max(v)))
family("median", "[median|<g>median|middle_value|list_median|median_value][<of>|]", "ints1",
       ["<ret> the median of [<thelist>|a list of numbers|the numbers <inlist>]",
        "<ret> the median [value|number|element] <inlist>", "<ret> the median of $0"],
       """
       ordered = sorted($0)
       middle = len(ordered) // 2
       if len(ordered) % 2 == 1:
           return ordered[middle]
       return (ordered[middle - 1] + ordered[middle]) / 2
       """, lambda v: sorted(v)[len(v) // 2] if len(v) % 2 else sum(sorted(v)[len(v) // 2 - 1 : len(v) // 2 + 1]) / 2)
family("second_largest", "[second_largest|second_biggest|second_max|<g>second_largest|second_highest|runner_up][<of>|]", "ints2",
       ["<ret> the second [largest|biggest|highest|greatest] [number|value|element] <inlist>",
        "<ret> the second [largest|biggest] [number|element] of <thelist>"],
       "return sorted(set($0))[-2]", lambda v: sorted(set(v))[-2])
family("kth_smallest", "[kth_smallest|nth_smallest|<g>kth_smallest|<g>nth_smallest|k_smallest]", "ints2 small:k,n,i",
       ["<ret> the $1-th smallest [number|element|value] [of|in] $0", "<ret> the [kth|k-th|nth] smallest [number|element|value] <inlist>"],
       "return sorted($0)[$1 - 1]", lambda v, k: sorted(v)[k - 1],
       make=lambda r: (lambda v: (v, r.randint(1, len(v))))(r.sample(range(30), r.randint(2, 6))))
family("length", "[length|size|count|list_length|number_of_elements|<g>length|my_len][_of_list|_of||_items]", "ints",
       [f"<ret> the [length|number of {_N}] of <thelist>", f"Count [the|all|all the] {_N} <inlist>",
        f"Return how many {_N} there are <inlist>"],
       "return len($0)", len)
family("first_element", "[first|head|<g>first|front][_element|_item|_of|_value|_of_list|]", "ints1",
       ["<ret> the first [element|item|number|value] [<inlist>|of $0]"], "return $0[0]", lambda v: v[0])
family("last_element", "[last|tail|<g>last|final][_element|_item|_of|_value|_of_list|]", "ints1",
       ["<ret> the last [element|item|number|value] [<inlist>|of $0]"], "return $0[-1]", lambda v: v[-1])
family("first_n", "[first_n|take|head|take_first|first_elements|<g>first_n|prefix]", "ints small:n,k,count,size",
       ["<give> [a list of |]the first $1 [elements|items|numbers|values] [of|in|from] $0"],
       "return $0[:$1]", lambda v, n: v[:n])
family("last_n", "[last_n|take_last|tail|last_elements|<g>last_n|suffix]", "ints pos:n,k,count,size",
       ["<give> [a list of |]the last $1 [elements|items|numbers|values] [of|in|from] $0"],
       "return $0[-$1:]", lambda v, n: v[-n:], make=lambda r: ([r.randint(0, 9) for _ in range(6)], r.randint(1, 7)))
family("every_second", "[every_second|every_other|alternate|skip_one|<g>every_second][_element|_item|]", "ints",
       ["<give> [a list of |]every [second|other] [element|item|number] [of|in] $0[, starting with the first|]"],
       "return $0[::2]", lambda v: v[::2])
family("reverse_list", "[reverse|reversed|flip|backwards]_[list|array|items|elements|order] list_reverse <g>reversed_list", "ints",
       ["Reverse <thelist>", "<give> <thelist> [in reverse order|reversed|backwards]",
        "<give> a [new |][reversed copy|copy in reverse order] of <thelist>",
        "<give> the [elements|items|numbers] <inlist> in reverse order"],
       "return $0[::-1]", lambda v: v[::-1])
family("sort_list", "[sort|order|sorted|arrange]_[list|numbers|array|values|ascending|items] <g>sorted[_list|]", "ints",
       ["Sort <thelist> [in ascending order|from smallest to largest|in increasing order|]",
        f"<give> the [sorted |]{_N} <inlist> in [ascending|increasing] order",
        "<give> a [new |]sorted [copy|list|version] of <thelist>"],
       "return sorted($0)", sorted)
family("sort_descending", "[sort|order|sorted|arrange]_[descending|reverse|reversed|desc|decreasing|high_to_low]", "ints",
       ["Sort <thelist> [in descending order|from largest to smallest|in decreasing order]",
        f"<give> the {_N} <inlist> in [descending|decreasing] order"],
       "return sorted($0, reverse=True)", lambda v: sorted(v, reverse=True))
family("bubble_sort", "bubble_sort[_list|_numbers|_array|] [sort_with|my|simple]_bubble[_sort|]", "ints",
       ["Sort <thelist> [using|with|by] [bubble sort|the bubble sort algorithm]",
        "[Bubble sort|Bubble-sort] <thelist> [in ascending order|]"],
       """
       result = list($0)
       for i in range(len(result)):
           for j in range(len(result) - 1 - i):
               if result[j] > result[j + 1]:
                   result[j], result[j + 1] = result[j + 1], result[j]
       return result
       """, sorted)
family("insertion_sort", "insertion_sort[_list|_numbers|_array|] [sort_by|my]_insertion[_sort|]", "ints",
       ["Sort <thelist> [using|with|by] [insertion sort|the insertion sort algorithm]",
        "[Insertion sort|Insertion-sort] <thelist> [in ascending order|]"],
       """
       result = []
       for num in $0:
           i = 0
           while i < len(result) and result[i] < num:
               i += 1
           result.insert(i, num)
       return result
       """, sorted)
family("selection_sort", "selection_sort[_list|_numbers|_array|] [sort_by|my]_selection[_sort|]", "ints",
       ["Sort <thelist> [using|with|by] [selection sort|the selection sort algorithm]",
        "[Selection sort|Selection-sort] <thelist> [in ascending order|]"],
       """
       result = list($0)
       for i in range(len(result)):
           smallest = i
           for j in range(i + 1, len(result)):
               if result[j] < result[smallest]:
                   smallest = j
           result[i], result[smallest] = result[smallest], result[i]
       return result
       """, sorted)
family("quick_sort", "[quick_sort|quicksort|my_quick_sort|quick_sort_list|quicksort_list|qsort]", "ints",
       ["Sort <thelist> [using|with|by] [quick sort|quicksort|the quicksort algorithm]", "[Quicksort|Quick sort] <thelist>"],
       """
       if len($0) <= 1:
           return $0
       pivot = $0[0]
       smaller = [num for num in $0[1:] if num < pivot]
       larger = [num for num in $0[1:] if num >= pivot]
       return $f(smaller) + [pivot] + $f(larger)
       """, sorted)
family("merge_sorted", "[merge_sorted|merge|merge_lists|merge_two_sorted|merge_sorted_lists|combine_sorted]",
       "sorted:a,left,xs,first sorted:b,right,ys,second",
       ["Merge [two sorted lists|the sorted lists $0 and $1] into one sorted list", "<give> one sorted list [from|made from] [two sorted lists|the sorted lists $0 and $1]"],
       """
       result = []
       i = 0
       j = 0
       while i < len($0) and j < len($1):
           if $0[i] <= $1[j]:
               result.append($0[i])
               i += 1
           else:
               result.append($1[j])
               j += 1
       return result + $0[i:] + $1[j:]
       """, lambda a, b: sorted(a + b))
family("is_sorted", "<is>sorted[_list|_ascending||] list_is_sorted <is>ordered", "ints",
       ["<check> <thelist> is [sorted|in ascending order|sorted in ascending order|ordered]",
        f"<check> the {_N} <inlist> are [sorted|in ascending order]"],
       """
       for i in range(len($0) - 1):
           if $0[i] > $0[i + 1]:
               return False
       return True
       """, lambda v: v == sorted(v),
       make=lambda r: (r.choice((sorted, list))([r.randint(0, 20) for _ in range(r.randint(0, 5))]),))
family("binary_search", "[binary_search|bin_search|search_sorted|binary_find|find_in_sorted]", "sorted any:target,x,key,value,item",
       ["[Search|Look] for $1 in the sorted list $0 [using|with] binary search[ and return its index or -1|]",
        "<ret> the index of $1 in [the sorted list $0|a sorted list], or -1 if it is [missing|not there|not found]",
        "Binary search[:| that] return[s|] the [index|position] of $1 in $0, or -1".replace("[:| that] return[s|]", " for")],
       """
       low = 0
       high = len($0) - 1
       while low <= high:
           middle = (low + high) // 2
           if $0[middle] == $1:
               return middle
           if $0[middle] < $1:
               low = middle + 1
           else:
               high = middle - 1
       return -1
       """, lambda v, t: v.index(t) if t in v else -1,
       make=lambda r: (lambda v: (v, r.choice(v + [99, -50])))(sorted(r.sample(range(30), 6))))
family("linear_search", "[linear_search|find_index|index_of|<g>index|<g>position|position_of|search][_of|_list|]", "ints any:target,x,key,value,item",
       ["<ret> the [index|position] of [the first |]$1 [in|within] $0, or -1 if it is [missing|not there|not found|not in the list]",
        "[Search|Look] for $1 in $0 and return its [index|position], or -1 if [it is |][missing|not found]"],
       """
       for i in range(len($0)):
           if $0[i] == $1:
               return i
       return -1
       """, lambda v, t: v.index(t) if t in v else -1,
       make=lambda r: (lambda v: (v, r.choice(v + [99])))(r.sample(range(30), 5)))
family("contains", "[contains|has|is_in|includes|has_element|list_contains|is_member][_value|_item|_list|]", "digits any:target,x,key,value,item",
       ["<check> $0 contains $1", "<check> $1 is [in|an element of|contained in] [$0|the list $0]",
        "<check> the list contains [the value $1|$1]"],
       "return $1 in $0", lambda v, t: t in v, make=lambda r: ([r.randint(0, 5) for _ in range(4)], r.randint(0, 5)))
family("count_occurrences", "[count_occurrences|occurrences|count_value|count_of|count_item|count_equal|frequency_of][_in_list||]", "digits any:target,x,key,value,item",
       ["[Count how many times|Count how often|Return how many times|Return how often] $1 [occurs|appears] [in|within] $0",
        "<ret> the number of [occurrences of $1|times $1 appears|elements equal to $1] in $0"],
       """
       count = 0
       for num in $0:
           if num == $1:
               count += 1
       return count
       """, lambda v, t: v.count(t), make=lambda r: ([r.randint(0, 4) for _ in range(7)], r.randint(0, 4)))
family("count_greater", "[count|number]_[greater|above|larger|bigger|greater_than|over]", "ints any:threshold,limit,x,target,k",
       [f"[Count the|Return the number of|Count how many] {_N} [in|of] $0 [that are |][greater than|larger than|above] $1"],
       """
       count = 0
       for num in $0:
           if num > $1:
               count += 1
       return count
       """, lambda v, t: sum(i > t for i in v))
for _key, _sign, _words, _ref in (
    ("greater", ">", "[greater than|larger than|above|bigger than]", lambda v, t: [i for i in v if i > t]),
    ("less", "<", "[less than|smaller than|below]", lambda v, t: [i for i in v if i < t]),
):
    _syn = "[greater|larger|above|bigger|over|greater_than]" if _key == "greater" else "[less|smaller|below|under|less_than]"
    family(f"filter_{_key}", f"[filter|keep|select|<g>]_{_syn}", "ints any:threshold,limit,x,target,k",
           [f"<give> [a list of |the list of |]<all>{_N} [in|of|from] $0 [that are |]{_words} $1",
            f"[Keep|Select|Filter] [only |]the {_N} of $0 that are {_words} $1"],
           f"return [num for num in $0 if num {_sign} $1]", _ref)
