"""Families about dictionaries, matrices and small classes of values."""

from __future__ import annotations

from exercises.family import family

_D = "[dictionary|dict|mapping]"
_THE_DICT = f"[the given {_D}|a {_D}|$0|the {_D} $0]"
_THE_MATRIX = "[a matrix|$0|the matrix $0|the given matrix|a list of lists]"

family("dict_keys", "[dict_keys|list_keys|<g>keys|keys_of|keys_list][_of_dict|]", "dict",
       [f"<give> [a list of |the list of ][all |the ]keys of {_THE_DICT}"], "return list($0.keys())", list)
family("dict_values", "[dict_values|list_values|<g>values|values_of|values_list][_of_dict|]", "dict",
       [f"<give> [a list of |the list of ][all |the ]values of {_THE_DICT}"], "return list($0.values())", lambda d: list(d.values()))
family("sum_dict_values", "[sum|total|add]_[dict|dict_values|of_values|dictionary|mapping]", "dict",
       [f"<ret> the [sum|total] of [all |the |all the ]values [of|in] {_THE_DICT}", f"[Sum|Add up] [all |the ]values [of|in] {_THE_DICT}"],
       "return sum($0.values())", lambda d: sum(d.values()))
family("max_dict_key", "[key_of_max|key_with_max|<g>best_key|max_key|argmax_dict|key_with_largest][_value|]", "dict",
       [f"<ret> the key with the [largest|biggest|highest|maximum] value [of|in] {_THE_DICT}"],
       "return max($0, key=$0.get)", lambda d: max(d, key=d.get))
family("min_dict_key", "[key_of_min|key_with_min|<g>worst_key|min_key|argmin_dict|key_with_smallest][_value|]", "dict",
       [f"<ret> the key with the [smallest|lowest|minimum] value [of|in] {_THE_DICT}"],
       "return min($0, key=$0.get)", lambda d: min(d, key=d.get))
family("invert_dict", "[invert|reverse|flip|swap]_[dict|dictionary|mapping|keys_values|keys_and_values]", "dict",
       [f"[Invert|Reverse] {_THE_DICT}[, so that values become keys|]", f"[Swap|Exchange] the keys and [the |]values of {_THE_DICT}"],
       "return {value: key for key, value in $0.items()}", lambda d: {v: k for k, v in d.items()})
family("merge_dicts", "[merge|combine|join]_[dicts|dictionaries|two_dicts|mappings]", "dict:a,d1,first,left dict:b,d2,second,right",
       [f"[Merge|Combine] [two dictionaries|two dicts|$0 and $1|the dictionaries $0 and $1][ into one|]"],
       """
       result = dict($0)
       result.update($1)
       return result
       """, lambda a, b: a | b)
family("dict_get", "[lookup|get_or_default|safe_get|get_value|dict_get|find_value]", "dict word:key,name,k any:default,fallback,other",
       [f"<ret> the value [of|for] [the key |]$1 in $0, or $2 if [it is|the key is] [missing|not there]"],
       "return $0.get($1, $2)", lambda d, k, x: d.get(k, x), make=lambda r: ({"a": 1, "b": r.randint(2, 9)}, r.choice("abc"), r.randint(-1, 0)))
family("has_key", "[has|contains|is]_key [key_exists|key_in_dict|dict_has_key|dict_contains]", "dict word:key,name,k",
       ["<check> $0 [has|contains] the key $1", "<check> $1 is a key [of|in] $0"], "return $1 in $0",
       lambda d, k: k in d, make=lambda r: ({"a": 1, "b": 2}, r.choice("abcd")))
family("dict_from_lists", "[make|build|create|<g>]_dict [dict_from_lists|zip_to_dict|lists_to_dict|dict_from_pairs]", "strs:keys,names,ks ints:values,vals,vs",
       ["[Build|Create|Make] a [dictionary|dict] from [the lists $0 and $1|$0 and $1|a list of keys and a list of values]",
        "<give> a [dictionary|dict] that maps [each element of $0|the elements of $0] to [the elements of $1|the matching element of $1]"],
       "return dict(zip($0, $1))", lambda a, b: dict(zip(a, b)), make=lambda r: (["x", "y", "z"][: r.randint(0, 3)], [r.randint(0, 9) for _ in range(3)]))
family("sort_dict", "[sort|order]_[dict|by_value|items_by_value|dict_by_value|dictionary] sorted_items", "dict",
       [f"<give> [a list of |][the |]keys of $0 [sorted|ordered] by [value|their value|their values]"],
       "return sorted($0, key=$0.get)", lambda d: sorted(d, key=d.get))
family("filter_dict", "[filter|keep|select]_[dict|items|dict_values|large_values|dictionary]", "dict any:limit,threshold,x,minimum,k",
       ["<give> a [dictionary|dict] [with|of] the items of $0 whose value is [greater than|larger than|above] $1",
        "Keep [only |]the [items|entries] of $0 whose value is [greater than|larger than|above] $1"],
       "return {key: value for key, value in $0.items() if value > $1}", lambda d, x: {k: v for k, v in d.items() if v > x},
       make=lambda r: ({"a": r.randint(0, 9), "b": r.randint(0, 9)}, r.randint(0, 9)))
family("square_dict", "[square|squares]_[dict|dictionary|map|table] [map|dict]_of_squares", "small",
       ["<give> a [dictionary|dict] that maps [the |each of the ][numbers|integers] [from |]1 to $0 to their squares",
        "<give> a [dictionary|dict] of the squares of the numbers [from |]1 to $0"],
       "return {i: i * i for i in range(1, $0 + 1)}", lambda n: {i: i * i for i in range(1, n + 1)})
family("group_by_length", "[group_by_length|group_words|words_by_length|group_by_size|length_groups]", "strs",
       ["Group the [words|strings] [of|in] $0 by [length|their length][ in a dictionary|]",
        "<give> a [dictionary|dict] that maps [each|every] length to the [list of |]words of $0 [of|with] that length"],
       """
       groups = {}
       for word in $0:
           groups.setdefault(len(word), []).append(word)
       return groups
       """, lambda v: {len(w): [u for u in v if len(u) == len(w)] for w in v})
family("count_items", "[count|tally|count_all]_[items|elements|values|numbers] [tally|histogram|frequencies|counts_of]", "digits",
       ["Count how [often|many times] [each|every] [element|number|value|item] [appears|occurs] <inlist>",
        "<give> a [dictionary|dict] [with|of] the counts of [each|every] [element|number|value] <inlist>"],
       """
       counts = {}
       for num in $0:
           counts[num] = counts.get(num, 0) + 1
       return counts
       """, lambda v: {x: v.count(x) for x in v})
family("transpose", "[transpose|transpose_matrix|matrix_transpose|swap_rows_and_columns|<g>transposed|flip_matrix]", "matrix",
       [f"[Transpose|Return the transpose of] {_THE_MATRIX}", f"[Swap|Exchange] the rows and [the |]columns of {_THE_MATRIX}"],
       "return [list(row) for row in zip(*$0)]", lambda m: [list(row) for row in zip(*m)])
family("matrix_sum", "[matrix_sum|sum_matrix|sum_of_matrix|total_of_grid|sum_grid|add_all_cells]", "matrix",
       [f"<ret> the [sum|total] of [all |the |all the ][elements|numbers|values|entries] [of|in] {_THE_MATRIX}"],
       """
       total = 0
       for row in $0:
           for num in row:
               total += num
       return total
       """, lambda m: sum(map(sum, m)))
family("row_sums", "[row_sums|sum_rows|sums_of_rows|<g>row_sums|row_totals]", "matrix",
       [f"<give> [a list of |]the [sums|totals] of [the |all |each of the ]rows of {_THE_MATRIX}", f"<give> a list with the sum of [each|every] row of {_THE_MATRIX}"],
       "return [sum(row) for row in $0]", lambda m: [sum(r) for r in m])
family("column_sums", "[column_sums|sum_columns|sums_of_columns|<g>column_sums|column_totals|col_sums]", "matrix",
       [f"<give> [a list of |]the [sums|totals] of [the |all |each of the ]columns of {_THE_MATRIX}", f"<give> a list with the sum of [each|every] column of {_THE_MATRIX}"],
       "return [sum(column) for column in zip(*$0)]", lambda m: [sum(c) for c in zip(*m)])
family("matrix_max", "[matrix_max|max_matrix|max_of_matrix|largest_in_grid|max_grid|largest_in_matrix]", "matrix",
       [f"<ret> the [largest|biggest|maximum] [element|number|value|entry] [of|in] {_THE_MATRIX}"],
       "return max(max(row) for row in $0)", lambda m: max(map(max, m)))
family("diagonal", "[diagonal|main_diagonal|<g>diagonal|diagonal_of|matrix_diagonal|diag]", "square",
       [f"<give> [a list of |]the [main |]diagonal [elements |]of [a square matrix|$0|the matrix $0|the square matrix $0]"],
       "return [$0[i][i] for i in range(len($0))]", lambda m: [row[i] for i, row in enumerate(m)])
family("trace", "[trace|matrix_trace|diagonal_sum|sum_diagonal|trace_of|<g>trace]", "square",
       [f"<ret> the [trace|sum of the diagonal] of [a square matrix|$0|the matrix $0|the square matrix $0]"],
       "return sum($0[i][i] for i in range(len($0)))", lambda m: sum(row[i] for i, row in enumerate(m)))
family("identity", "[identity|identity_matrix|make_identity|<g>identity|eye|create_identity]", "small",
       ["<give> the identity matrix of size $0", "<give> [an|the] $0 by $0 identity matrix"],
       "return [[1 if i == j else 0 for j in range($0)] for i in range($0)]",
       lambda n: [[int(i == j) for j in range(n)] for i in range(n)], make=lambda r: (r.randint(1, 4),))
family("zeros", "[zeros|zero_matrix|make_zeros|empty_grid|make_grid|create_matrix]", "small:rows,n,height,m small:columns,k,width,cols",
       ["<give> a matrix of zeros with $0 rows and $1 columns", "<give> a $0 by $1 [matrix|grid|list of lists] [filled with|of] zeros"],
       "return [[0] * $1 for _ in range($0)]", lambda n, m: [[0] * m for _ in range(n)], make=lambda r: (r.randint(1, 4), r.randint(1, 4)))
family("matrix_add", "[matrix_add|add_matrices|sum_matrices|matrix_sum_of_two|add_grids]", "matrix:a,x,first matrix:b,y,second",
       ["Add [two matrices|the matrices $0 and $1|$0 and $1 as matrices]", "<give> the sum of [two matrices|the matrices $0 and $1]"],
       "return [[$0[i][j] + $1[i][j] for j in range(len($0[0]))] for i in range(len($0))]",
       lambda a, b: [[x + y for x, y in zip(r, s)] for r, s in zip(a, b)],
       make=lambda r: ([[r.randint(0, 9), 2], [3, 4]], [[5, r.randint(0, 9)], [7, 8]]))
family("matrix_scale", "[matrix_scale|scale_matrix|multiply_matrix|scalar_multiply|scale_grid]", "matrix any:k,factor,x,scalar",
       ["Multiply [each|every] [element|entry|number] of [the matrix |]$0 by $1", "<give> the matrix $0 [multiplied|scaled] by $1"],
       "return [[num * $1 for num in row] for row in $0]", lambda m, k: [[x * k for x in row] for row in m])
family("matrix_multiply", "[matrix_multiply|multiply_matrices|matmul|matrix_product|mat_mul]", "matrix:a,x,first matrix:b,y,second",
       ["Multiply [two matrices|the matrices $0 and $1]", "<give> the [matrix |]product of [two matrices|the matrices $0 and $1]"],
       """
       result = []
       for row in $0:
           result.append([sum(p * q for p, q in zip(row, column)) for column in zip(*$1)])
       return result
       """, lambda a, b: [[sum(r[k] * b[k][j] for k in range(len(b))) for j in range(len(b[0]))] for r in a],
       make=lambda r: ([[1, r.randint(0, 9)], [3, 4]], [[5, 6], [r.randint(0, 9), 8]]))
family("get_column", "[column|<g>column|nth_column|column_of|extract_column]", "matrix small:j,index,k,n",
       ["<give> [a list of |]the [elements of |]column [number |with index |]$1 of [the matrix |]$0"],
       "return [row[$1] for row in $0]", lambda m, j: [row[j] for row in m],
       make=lambda r: ([[1, 2, r.randint(0, 9)], [4, 5, 6]], r.randint(0, 2)))
family("rotate_matrix", "[rotate_matrix|rotate_grid|rotate_clockwise|rotate_right|turn_matrix]", "matrix",
       [f"Rotate {_THE_MATRIX} [clockwise|clockwise by 90 degrees|by 90 degrees clockwise]"],
       "return [list(row) for row in zip(*$0[::-1])]", lambda m: [list(r) for r in zip(*m[::-1])])
