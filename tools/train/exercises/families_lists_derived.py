"""Families that derive a new list from lists of numbers, or relate the elements of lists."""

from __future__ import annotations

from exercises.family import family

_N = "[numbers|values|elements|integers|items]"

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
