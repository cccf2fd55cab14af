"""Families that training never sees, beside the held-out cells of families_grid.py."""

from __future__ import annotations

from exercises.family import family

family("sum_cubes_to_n", "[sum|add|total]_[of_cubes|cubes]_[to_n|up_to|upto|first_n|range]", "int",
       ["<ret> the [sum|total] of the cubes of [all |the |][numbers|integers] [from 1 to $0|up to $0]"],
       """
       total = 0
       for i in range(1, $0 + 1):
           total += i ** 3
       return total
       """, lambda n: sum(i**3 for i in range(1, n + 1)), held_out=True)
family("second_smallest", "[second_smallest|second_min|<g>second_smallest|second_lowest]", "ints2",
       ["<ret> the second [smallest|lowest] [number|value|element] <inlist>"],
       "return sorted(set($0))[1]", lambda v: sorted(set(v))[1], held_out=True)
family("print_cubes", "[print|show|display|output]_[cubes|cube_numbers|the_cubes]", "int",
       ["[Print|Display|Output] the cubes of [the |all |]numbers from 1 to $0"],
       """
       for i in range(1, $0 + 1):
           print(i ** 3)
       """, lambda n: "".join(f"{i**3}\n" for i in range(1, n + 1)), prints=True, held_out=True)
family("matrix_min", "[matrix_min|min_matrix|min_of_matrix|smallest_in_grid|min_grid]", "matrix",
       ["<ret> the [smallest|lowest|minimum] [element|number|value|entry] [of|in] [a matrix|$0|the matrix $0]"],
       "return min(min(row) for row in $0)", lambda m: min(map(min, m)), held_out=True)
family("is_power_of_two", "<is>power_of_[two|2] is_two_power", "pos",
       ["<check> [$0|a number|the given number] is a power of [two|2]"],
       """
       while $0 % 2 == 0:
           $0 //= 2
       return $0 == 1
       """, lambda n: bin(n).count("1") == 1,
       make=lambda r: (r.choice((1, 2, 3, 4, 6, 8, 12, 16, r.randint(1, 70))),), held_out=True)
family("hamming_distance", "[hamming_distance|hamming|count_differences|<g>hamming_distance]",
       "word:a,s,first word:b,t,second",
       ["[Count|Return the number of] positions [at which|where] $0 and $1 differ"],
       "return sum(p != q for p, q in zip($0, $1))", lambda a, b: sum(p != q for p, q in zip(a, b)),
       make=lambda r: tuple("".join(r.choice("ab") for _ in range(4)) for _ in "12"), held_out=True)
family("count_less", "[count|number]_[less|below|smaller|less_than|under]", "ints any:threshold,limit,x,k",
       ["[Count the|Return the number of] [numbers|values|elements] [in|of] $0 [that are |][less than|smaller than|below] $1"],
       """
       count = 0
       for num in $0:
           if num < $1:
               count += 1
       return count
       """, lambda v, t: sum(i < t for i in v), held_out=True)
