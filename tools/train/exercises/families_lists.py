"""Families about lists of numbers: aggregates, transformations, searching and sorting."""

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
for _key, _words, _name, _expr, _ref in (
    ("square", "squared", "[square|squared]", "num * num", lambda i: i * i),
    ("double", "[doubled|multiplied by two|times two]", "[double|doubled|twice]", "num * 2", lambda i: i * 2),
    ("triple", "[tripled|multiplied by three|times three]", "[triple|tripled]", "num * 3", lambda i: i * 3),
    ("negate", "[negated|with the opposite sign]", "[negate|negated|opposite]", "-num", lambda i: -i),
    ("increment", "[increased by one|incremented|plus one]", "[increment|incremented|increase|plus_one]", "num + 1", lambda i: i + 1),
    ("cube", "cubed", "[cube|cubed]", "num ** 3", lambda i: i**3),
    ("string", "[as a string|converted to a string|as text]", "[stringify|to_string|string]", "str(num)", str),
):
    family(f"map_{_key}", f"{_name}_[list|all|numbers|elements|each|values|items|every]", "ints",
           [f"<give> a [new |]list [with|of] [each|every] [number|element|value|item] <inlist> {_words}",
            f"<give> [each|every] [number|element|value] <inlist> {_words}",
            f"<give> a [new |]list [where|in which] [each|every] [number|element|value] [of $0 |]is {_words}"],
           f"return [{_expr} for num in $0]", lambda v, f=_ref: [f(i) for i in v])
for _key, _words, _name, _sign, _ref in (
    ("add", "[plus $1|increased by $1]", "[add_to|increase|add]_[each|all|list|every]", "+", lambda v, k: [i + k for i in v]),
    ("scale", "[times $1|multiplied by $1]", "[scale|multiply|times]_[each|all|list|every|by]", "*", lambda v, k: [i * k for i in v]),
):
    family(f"map_{_key}_k", _name, "ints any:k,x,amount,factor,n",
           [f"<give> a [new |]list [with|of] [each|every] [number|element|value|item] [in|of] $0 {_words}"],
           f"return [num {_sign} $1 for num in $0]", _ref)
family("unique", "[unique|distinct|remove_duplicates|dedupe|deduplicate|without_duplicates][_list|_elements|_values|_items|]", "digits",
       ["Remove [all |the |]duplicates from <thelist>[, keeping the order| and keep the order|]",
        f"<give> [a list of |]the [unique|distinct] {_N} <inlist>[, in order of first appearance|]",
        "<give> <thelist> without [duplicates|repeated elements]"],
       """
       result = []
       for num in $0:
           if num not in result:
               result.append(num)
       return result
       """, lambda v: list(dict.fromkeys(v)))
family("has_duplicates", "[has|contains|check|any]_[duplicates|repeats|duplicate|repeated]", "digits",
       [f"<check> <thelist> [contains|has] [any |][duplicates|repeated elements|duplicate {_N}]",
        "<check> [any|some] [element|value|number] appears more than once <inlist>"],
       "return len($0) != len(set($0))", lambda v: len(v) != len(set(v)))
family("most_common", "[most_common|most_frequent|mode|<g>mode|<g>most_common][_element|_value|_item|_number|]", "digits",
       ["<ret> the most [common|frequent] [element|value|number|item] <inlist>",
        "<ret> the [element|value|number] that [appears|occurs] most often <inlist>", "<ret> the mode of <thelist>"],
       "return max($0, key=$0.count)", lambda v: max(v, key=v.count))
family("cumulative_sum", "[cumulative_sum|running_total|running_sum|prefix_sums|partial_sums|cumsum|<g>running_total][_list|]", "ints",
       ["<give> [a list of |the list of |]the [running|cumulative|partial] [sums|totals] of <thelist>",
        "<give> [a list of |]the prefix sums of <thelist>"],
       """
       result = []
       total = 0
       for num in $0:
           total += num
           result.append(total)
       return result
       """, lambda v: [sum(v[: i + 1]) for i in range(len(v))])
family("running_max", "[running|rolling|cumulative]_[max|maximum] <g>[running|rolling]_max", "ints1",
       [f"<give> [a list of |]the [running|rolling|cumulative] [maximum|maxima|max] of <thelist>",
        "<give> a list with the largest [number|element] seen so far at each [position|step] of $0"],
       """
       result = []
       largest = $0[0]
       for num in $0:
           largest = max(largest, num)
           result.append(largest)
       return result
       """, lambda v: [max(v[: i + 1]) for i in range(len(v))])
family("differences", "[differences|diffs|<g>differences|consecutive_differences|deltas|pairwise_differences]", "ints",
       ["<give> [a list of |]the differences [between|of] [consecutive|neighbouring|adjacent] [numbers|elements] <inlist>"],
       "return [$0[i + 1] - $0[i] for i in range(len($0) - 1)]", lambda v: [b - a for a, b in zip(v, v[1:])])
family("flatten", "[flatten|flat|flatten_list|flatten_lists|concat_lists|join_lists|<g>flat_list][_nested|]", "matrix:lists,nested,xss,parts",
       ["Flatten [a list of lists|$0|the nested list $0][ into one list|]", "<give> one [flat |]list with [all |the ||]elements of [the lists in $0|a list of lists]"],
       """
       result = []
       for row in $0:
           for item in row:
               result.append(item)
       return result
       """, lambda m: [x for row in m for x in row])
family("chunk", "[chunk|chunks|split_into_chunks|split_list|group|make_chunks]", "ints pos:n,size,k,length",
       ["[Split|Divide] $0 into [chunks|pieces|groups|lists] of [size|length] $1"],
       "return [$0[i:i + $1] for i in range(0, len($0), $1)]", lambda v, n: [v[i : i + n] for i in range(0, len(v), n)],
       make=lambda r: ([r.randint(0, 9) for _ in range(r.randint(0, 7))], r.randint(1, 4)))
family("rotate_left", "rotate[_list|_array|]_[left|by|by_one]  [shift|rotate]_left", "ints1 small:k,n,steps,shift",
       ["Rotate $0 [to the left |left ]by $1 [positions|places|steps|]"],
       "return $0[$1:] + $0[:$1]", lambda v, k: v[k:] + v[:k],
       make=lambda r: ([r.randint(0, 9) for _ in range(6)], r.randint(0, 5)))
family("swap_ends", "[swap|exchange]_[ends|first_last|first_and_last|edges]", "ints2",
       ["[Swap|Exchange] the first and [the |]last [element|item|number] of <thelist>[ and return it|]"],
       """
       $0[0], $0[-1] = $0[-1], $0[0]
       return $0
       """, lambda v: [v[-1], *v[1:-1], v[0]])
family("concat", "[concat|concatenate|join|combine|append]_[lists|two_lists|arrays|two]", "ints:a,xs,first,left ints:b,ys,second,right",
       ["[Concatenate|Join|Combine] [two lists|$0 and $1|the lists $0 and $1]", "<give> a list with [all |][the |]elements of $0 followed by those of $1"],
       "return $0 + $1", lambda a, b: a + b)
_TWO = "digits:a,xs,first,list1 digits:b,ys,second,list2"
family("common_elements", "[common|shared|intersection|intersect]_[elements|items|values|lists|of_lists|numbers]", _TWO,
       ["<give> [a list of |]the [elements|items|numbers|values] [common to|that are in both|found in both] $0 and $1",
        "<give> [a list of |]the [elements|items|numbers] of $0 that are also in $1", "<give> the intersection of $0 and $1"],
       "return [item for item in $0 if item in $1]", lambda a, b: [x for x in a if x in b])
family("list_difference", "[list_difference|difference|subtract_lists|not_in_second|only_in_first|missing_elements]", _TWO,
       ["<give> [a list of |]the [elements|items|numbers|values] of $0 that are not in $1",
        "<give> [a list of |]the [elements|items|numbers] [in|of] $0 [missing from|absent from] $1"],
       "return [item for item in $0 if item not in $1]", lambda a, b: [x for x in a if x not in b])
_SAME = lambda r: (lambda n: ([r.randint(-5, 9) for _ in range(n)], [r.randint(-5, 9) for _ in range(n)]))(r.randint(0, 5))
family("dot_product", "[dot_product|dot|inner_product|scalar_product|<g>dot_product]", "ints:a,xs,u,first ints:b,ys,v,second",
       ["<ret> the [dot|inner|scalar] product of [two vectors|two lists|$0 and $1|the vectors $0 and $1]"],
       "return sum(x * y for x, y in zip($0, $1))", lambda a, b: sum(p * q for p, q in zip(a, b)), make=_SAME)
family("add_lists", "[add|sum]_[lists|vectors|elementwise|pairwise|two_lists|arrays] elementwise_[sum|add]", "ints:a,xs,u,first ints:b,ys,v,second",
       ["Add [two lists|two vectors|$0 and $1|the lists $0 and $1] [element by element|elementwise|element-wise]",
        "<give> [a list of |]the [elementwise |pairwise |element-wise ]sums of $0 and $1"],
       "return [x + y for x, y in zip($0, $1)]", lambda a, b: [p + q for p, q in zip(a, b)], make=_SAME)
family("pair_sum", "[has_pair|pair_sum|has_pair_with_sum|two_sum_exists|pair_with_sum]", "ints2 any:target,total,goal",
       ["<check> [any two|two different] [numbers|elements] [in|of] $0 [add up|sum] to $1",
        "<check> there are two [numbers|elements] [in|of] $0 whose sum is $1"],
       """
       for i in range(len($0)):
           for j in range(i + 1, len($0)):
               if $0[i] + $0[j] == $1:
                   return True
       return False
       """, lambda v, t: any(v[i] + v[j] == t for i in range(len(v)) for j in range(i)),
       make=lambda r: (r.sample(range(12), 4), r.randint(3, 18)))
family("two_sum", "[two_sum|two_sum_indices|find_pair|pair_indices|<g>pair_indices]", "ints2 any:target,total,goal",
       ["<ret> the [indices|positions] of two [numbers|elements] [in|of] $0 that [add up|sum] to $1"],
       """
       for i in range(len($0)):
           for j in range(i + 1, len($0)):
               if $0[i] + $0[j] == $1:
                   return [i, j]
       return []
       """, lambda v, t: next(([i, j] for i in range(len(v)) for j in range(i + 1, len(v)) if v[i] + v[j] == t), []),
       make=lambda r: (r.sample(range(12), 4), r.randint(3, 18)))
family("sum_list_recursive", "[sum|total]_[list|numbers]_[recursive|rec|recursively] recursive_[list_sum|sum_list]", "ints",
       [f"<ret> the [sum|total] of <all>{_N} <inlist> [recursively|using recursion|with recursion]"],
       """
       if not $0:
           return 0
       return $0[0] + $f($0[1:])
       """, sum)
family("max_index", "[index_of|<g>|position_of]_[max|largest|maximum] [argmax|max_index]", "ints2",
       ["<ret> the [index|position] of the [largest|biggest|maximum] [number|value|element] <inlist>"],
       "return $0.index(max($0))", lambda v: v.index(max(v)))
family("min_index", "[index_of|<g>|position_of]_[min|smallest|minimum] [argmin|min_index]", "ints2",
       ["<ret> the [index|position] of the [smallest|lowest|minimum] [number|value|element] <inlist>"],
       "return $0.index(min($0))", lambda v: v.index(min(v)))
family("is_empty", "<is>empty[_list|||] list_is_empty", "ints",
       ["<check> <thelist> is empty", "<check> <thelist> has no [elements|items]"], "return len($0) == 0", lambda v: not v,
       make=lambda r: (r.choice(([], [1], [2, 3])),))
family("all_equal", "[all|are_all|check]_[equal|same|identical|the_same]", "digits",
       [f"<check> [all|all the|all of the] {_N} <inlist> are [equal|the same|identical]"],
       "return len(set($0)) <= 1", lambda v: len(set(v)) <= 1, make=lambda r: ([r.randint(0, 1) for _ in range(3)],))
family("make_pairs", "[make|create|<g>]_pairs zip_lists pair_[up|elements|lists]", "ints:a,xs,first,left ints:b,ys,second,right",
       ["<give> [a list of |]pairs [of|with] [the |]elements [of|from] $0 and $1", "[Pair|Pair up] the elements of $0 and $1[ as tuples| in tuples|]"],
       "return list(zip($0, $1))", lambda a, b: list(zip(a, b)), make=_SAME)
family("remove_value", "[remove|delete|drop|without]_[value|item|all|element|every|number]", "digits any:target,x,value,item,k",
       ["Remove [all|every] occurrence[s|] of $1 from $0".replace("occurrence[s|]", "[occurrences|occurrence]"),
        "<give> $0 without [the value|any|the elements equal to] $1"],
       "return [num for num in $0 if num != $1]", lambda v, t: [i for i in v if i != t],
       make=lambda r: ([r.randint(0, 4) for _ in range(7)], r.randint(0, 4)))
family("replace_value", "[replace|substitute|swap]_[value|item|all|element|number]", "digits any:old,x,a any:new,y,b",
       ["Replace [all|every|each] [occurrences of|element equal to|value equal to] $1 [in|of] $0 [with|by] $2"],
       "return [$2 if num == $1 else num for num in $0]", lambda v, a, b: [b if i == a else i for i in v],
       make=lambda r: ([r.randint(0, 4) for _ in range(6)], r.randint(0, 4), r.randint(5, 9)))
