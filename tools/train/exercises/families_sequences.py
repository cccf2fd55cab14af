"""Families about primes, famous sequences, loops over ranges, and printing."""

from __future__ import annotations

import math

from exercises.family import family


def _is_prime(n: int) -> bool:
    return n > 1 and all(n % i for i in range(2, math.isqrt(n) + 1))


def _fib(n: int) -> int:
    a, b = 0, 1
    for _ in range(n):
        a, b = b, a + b
    return a


_PRIME_LOOP = """
       for num in range(2, $0 + 1):
           for i in range(2, num):
               if num % i == 0:
                   break
           else:
               {}
"""
_UPTO = "[between 1 and $0|up to $0|from 1 to $0|from 2 to $0|between 2 and $0|up to and including $0|less than or equal to $0|not greater than $0]"

family("print_prime", "print_[prime|primes|prime_numbers|all_primes|primes_up_to|primes_upto|the_primes|prime_list] show_primes "
       "[display|output|write]_[primes|prime_numbers]", "pos:n,n,n,num,limit,number,k,m,x",
       [f"[Print|Print out|Display|Output|Write] [all|all the|the|every one of the] [primes|prime numbers] {_UPTO}",
        f"[Prints|Print] [each|every] prime [number |]{_UPTO}",
        f"Print [all |the |]primes {_UPTO}, one per line",
        f"Find and print [all |the |][primes|prime numbers] {_UPTO}"],
       _PRIME_LOOP.format("print(num)"), lambda n: "".join(f"{i}\n" for i in range(n + 1) if _is_prime(i)),
       prints=True)
family("list_primes", "<g>[primes|prime_numbers|prime_list|all_primes] [list|primes]_[primes|upto|up_to] primes_up_to",
       "pos:n,n,n,num,limit,number,k,m,x",
       [f"<give> [a list of |the list of ||][all|all the|the] [primes|prime numbers] {_UPTO}",
        f"<give> a list [with|containing|that holds] [all|all the|the] [primes|prime numbers] {_UPTO}"],
       "primes = []" + _PRIME_LOOP.format("primes.append(num)").replace("\n       ", "\n") + "return primes",
       lambda n: [i for i in range(n + 1) if _is_prime(i)])
family("count_primes", "[count|number_of|num|how_many]_[primes|prime_numbers] prime_count <g>prime_count",
       "pos:n,n,n,num,limit,number,k,m,x",
       [f"[Count|Return the number of|Find the number of|Count the] [primes|prime numbers] {_UPTO}",
        f"Return how many [primes|prime numbers] there are {_UPTO}"],
       "count = 0" + _PRIME_LOOP.format("count += 1").replace("\n       ", "\n") + "return count",
       lambda n: sum(map(_is_prime, range(n + 1))))
family("sum_primes", "[sum|add|total]_[primes|of_primes|prime_numbers] prime_sum <g>prime_[sum|total]",
       "pos:n,n,n,num,limit,number,k,m,x",
       [f"<ret> the [sum|total] of [all|all the|the] [primes|prime numbers] {_UPTO}",
        f"[Sum|Add] [up |][all|all the|the] [primes|prime numbers] {_UPTO}"],
       "total = 0" + _PRIME_LOOP.format("total += num").replace("\n       ", "\n") + "return total",
       lambda n: sum(i for i in range(n + 1) if _is_prime(i)))
family("is_prime", "<is>prime[_number|_num|||] prime_test check_prime", "int:n,n,num,number,x,k",
       ["<check> [$0|a number|the given number|the number $0|a given number] is [prime|a prime|a prime number]",
        "Return true if [$0|a given number|the number] is prime, and false otherwise"],
       """
       if $0 < 2:
           return False
       for i in range(2, $0):
           if $0 % i == 0:
               return False
       return True
       """, _is_prime, make=lambda r: (r.randint(0, 60),))
family("next_prime", "[next_prime|<g>next_prime|prime_after|smallest_prime_above|first_prime_after][_number|]", "int",
       ["<ret> the [smallest|first|next] prime [number |][greater than|larger than|after|above] $0"],
       """
       $0 += 1
       while $0 < 2 or any($0 % i == 0 for i in range(2, $0)):
           $0 += 1
       return $0
       """, lambda n: next(i for i in range(n + 1, 2 * n + 4) if _is_prime(i)))
family("prime_factors", "[prime_factors|<g>prime_factors|factorize|factor|prime_factorization][_of|_list|]", "pos",
       ["<give> [a list of |the list of ||]the prime factors of [$0|a number|the given number]",
        "[Factorize|Factor] [$0|a number|an integer] into [its prime factors|primes]"],
       """
       factors = []
       i = 2
       while $0 > 1:
           while $0 % i == 0:
               factors.append(i)
               $0 //= i
           i += 1
       return factors
       """, lambda n: sorted(p for p in range(2, n + 1) if _is_prime(p) for e in range(1, 8) if n % p**e == 0),
       make=lambda r: (r.randint(2, 100),))
family("smallest_divisor", "[smallest|least|first|min]_[divisor|factor] <g>smallest_[divisor|factor]", "pos",
       ["<ret> the smallest [divisor|factor] of $0 [greater than 1|larger than one|above 1|other than 1]"],
       """
       for i in range(2, $0 + 1):
           if $0 % i == 0:
               return i
       """, lambda n: next(i for i in range(2, n + 1) if n % i == 0), make=lambda r: (r.randint(2, 99),))
family("factorial", "[factorial|<g>factorial|fact|my_factorial|n_factorial|compute_fact][_of|_iterative|_loop||||]", "small",
       ["<ret> the factorial of [$0|a number|the given number|a non-negative integer|an integer $0]",
        "<ret> $0 factorial", "<ret> the product of [all |the |][positive |]integers from 1 to $0",
        "<ret> the factorial of $0 [using a loop|iteratively]", "<ret> $0! (n factorial)"],
       """
       result = 1
       for i in range(1, $0 + 1):
           result *= i
       return result
       """, math.factorial)
family("factorial_recursive", "[factorial|fact]_[recursive|rec|recursion] recursive_[factorial|fact]", "small",
       ["<ret> the factorial of [$0|a number|the given number] [recursively|using recursion|with recursion]",
        "[Recursively|Using recursion,] [compute|calculate|find] the factorial of [$0|a number]"],
       """
       if $0 <= 1:
           return 1
       return $0 * $f($0 - 1)
       """, math.factorial)
family("fibonacci", "[fibonacci|fib|<g>fibonacci|nth_fibonacci|fibonacci_number|fib_number|<g>fib][_n|_iterative||||]", "int",
       ["<ret> the $0-th Fibonacci number", "<ret> the [nth|n-th] Fibonacci number", "<ret> the Fibonacci number [at position|with index|number] $0",
        "<ret> the $0th [number|element|term] of the Fibonacci [sequence|series]"],
       """
       a, b = 0, 1
       for _ in range($0):
           a, b = b, a + b
       return a
       """, _fib)
family("fibonacci_recursive", "[fibonacci|fib]_[recursive|rec|recursion] recursive_[fibonacci|fib]", "small",
       ["<ret> the [nth|n-th|$0-th] Fibonacci number [recursively|using recursion|with recursion]",
        "[Recursively|Using recursion,] [compute|calculate|find] the [nth|n-th|$0-th] Fibonacci number"],
       """
       if $0 < 2:
           return $0
       return $f($0 - 1) + $f($0 - 2)
       """, _fib)
family("fibonacci_list", "[fibonacci|fib]_[list|sequence|series|numbers] [list|first]_[fibonacci|fib] <g>fibonacci_[list|series|sequence]", "small",
       ["<give> [a list of |the list of ||]the first $0 Fibonacci numbers",
        "<give> the first $0 [terms|elements|numbers] of the Fibonacci [sequence|series] [as a list|in a list|]"],
       """
       result = []
       a, b = 0, 1
       for _ in range($0):
           result.append(a)
           a, b = b, a + b
       return result
       """, lambda n: [_fib(i) for i in range(n)])
family("sum_to_n", "[sum|add|total]_[to_n|up_to|upto|first_n|of_first_n|range|1_to_n|naturals|natural_numbers]", "int",
       ["<ret> the [sum|total] of [all |the ||][numbers|integers|natural numbers] [from 1 to $0|up to $0|between 1 and $0]",
        "<ret> the [sum|total] of the first $0 [natural numbers|positive integers|positive numbers]",
        "[Sum|Add up] [all |the |][numbers|integers] [from 1 to $0|up to $0]", "<ret> 1 + 2 + ... + $0"],
       """
       total = 0
       for i in range(1, $0 + 1):
           total += i
       return total
       """, lambda n: n * (n + 1) // 2)
family("sum_squares_to_n", "[sum|add|total]_[of_squares|squares]_[to_n|up_to|upto|first_n|range] square_sum_[to_n|upto]", "int",
       ["<ret> the [sum|total] of the squares of [all |the |][numbers|integers] [from 1 to $0|up to $0|between 1 and $0]",
        "<ret> the [sum|total] of the first $0 [squares|square numbers]"],
       """
       total = 0
       for i in range(1, $0 + 1):
           total += i * i
       return total
       """, lambda n: sum(i * i for i in range(1, n + 1)))
for _key, _start, _ref in (("even", 2, lambda n: sum(range(2, n + 1, 2))), ("odd", 1, lambda n: sum(range(1, n + 1, 2)))):
    family(f"sum_{_key}_to_n", f"[sum|add|total]_{_key}[_numbers|s|]_[to_n|up_to|upto|to|range]", "int",
           [f"<ret> the [sum|total] of [all |all the |the |]{_key} [numbers|integers] [from 1 to $0|up to $0|between 1 and $0]"],
           f"""
           total = 0
           for i in range({_start}, $0 + 1, 2):
               total += i
           return total
           """, _ref)
    family(f"list_{_key}_to_n", f"[list|all|<g>]_{_key}[_numbers|s|]_[to_n|up_to|upto|to] {_key}s_[upto|up_to|to]", "int",
           [f"<give> [a list of |the list of |]all {_key} [numbers|integers] [from 1 to $0|up to $0|between 1 and $0]"],
           f"return [i for i in range({_start}, $0 + 1, 2)]", lambda n, s=_start: list(range(s, n + 1, 2)))
    family(f"print_{_key}_to_n", f"[print|show|display|output]_{_key}[_numbers|s||_up_to]", "int",
           [f"[Print|Display|Output|Print out] [all |all the |the |]{_key} [numbers|integers] [from 1 to $0|up to $0|between 1 and $0]"],
           f"""
           for i in range({_start}, $0 + 1, 2):
               print(i)
           """, lambda n, s=_start: "".join(f"{i}\n" for i in range(s, n + 1, 2)), prints=True)
family("list_squares", "[squares|list_squares|square_numbers|<g>squares|first_squares][_up_to|_list|_to_n|_upto|]", "int",
       ["<give> [a list of |the list of ||]the squares of [the numbers|numbers|the integers|all numbers] from 1 to $0",
        "<give> [a list of |]the first $0 [squares|square numbers]"],
       "return [i * i for i in range(1, $0 + 1)]", lambda n: [i * i for i in range(1, n + 1)])
family("list_multiples", "[list_multiples|<g>multiples|multiples_of|first_multiples|multiples]",
       "pos:x,a,base,number,num small:n,count,k,length",
       ["<give> [a list of |the list of ||]the first $1 multiples of $0"],
       "return [$0 * i for i in range(1, $1 + 1)]", lambda x, n: [x * i for i in range(1, n + 1)])
family("range_list", "[numbers|ints|list|integers]_[to_n|up_to|upto|from_one] <g>[number|range]_list [make|create]_range", "int",
       ["<give> [a list of |the list of |]the [numbers|integers] from 1 to $0",
        "<give> a list [with|of|containing] all [numbers|integers] [from 1 to $0|between 1 and $0]"],
       "return list(range(1, $0 + 1))", lambda n: list(range(1, n + 1)))
family("countdown_list", "[countdown|count_down|descending|backwards][_list|_from|_numbers|_to_one|]", "int",
       ["<give> a list [counting down from|of the numbers from] $0 [down |]to 1",
        "<give> [a list of |]the numbers from $0 down to 1"],
       "return list(range($0, 0, -1))", lambda n: list(range(n, 0, -1)))
family("print_numbers", "[print|show|display|output]_[numbers|range|integers|to_n|count|up_to|one_to_n]", "int",
       ["[Print|Display|Output|Print out] [all |all the |the |][numbers|integers] from 1 to $0",
        "[Print|Display|Output] [all |the |][numbers|integers] [between 1 and $0|up to $0]"],
       """
       for i in range(1, $0 + 1):
           print(i)
       """, lambda n: "".join(f"{i}\n" for i in range(1, n + 1)), prints=True)
family("print_countdown", "[print|show|display]_[countdown|count_down|descending|backwards]", "int",
       ["[Print|Display|Output] [the |all |]numbers from $0 [down |]to 1", "[Print|Display] a countdown from $0 to 1"],
       """
       for i in range($0, 0, -1):
           print(i)
       """, lambda n: "".join(f"{i}\n" for i in range(n, 0, -1)), prints=True)
family("print_squares", "[print|show|display|output]_[squares|square_numbers|the_squares]", "int",
       ["[Print|Display|Output] the squares of [the |all |]numbers from 1 to $0",
        "[Print|Display] the square of [each|every] number from 1 to $0"],
       """
       for i in range(1, $0 + 1):
           print(i * i)
       """, lambda n: "".join(f"{i * i}\n" for i in range(1, n + 1)), prints=True)
family("print_table", "[print|show|display]_[table|multiplication_table|times_table|multiples]", "pos",
       ["[Print|Display|Output] the [multiplication|times] table of $0 [from 1 to 10|up to 10|]",
        "[Print|Display] the first [ten|10] multiples of $0"],
       """
       for i in range(1, 11):
           print($0 * i)
       """, lambda n: "".join(f"{n * i}\n" for i in range(1, 11)), prints=True)
family("print_triangle", "[print|show|draw|display]_[triangle|stars|star_triangle|pyramid|pattern]", "small",
       ["[Print|Draw|Display] a triangle of stars with $0 [rows|lines]",
        "[Print|Draw] $0 [rows|lines] of stars, with one star in the first [row|line]"],
       """
       for i in range(1, $0 + 1):
           print('*' * i)
       """, lambda n: "".join("*" * i + "\n" for i in range(1, n + 1)), prints=True)
family("print_items", "[print|show|display|output]_[items|list|elements|values|each|all]", "ints",
       ["[Print|Display|Output] [each|every] [element|item|number|value] <inlist>[, one per line| on its own line|||]",
        "[Print|Display|Output] [all|all the|the] [elements|items|numbers|values] <inlist>"],
       """
       for num in $0:
           print(num)
       """, lambda v: "".join(f"{i}\n" for i in v), prints=True)
family("print_hello", "[greet|say_hello|print_hello|hello|print_greeting|welcome]", "word:name,person,user,who",
       ["[Print|Display] [a greeting for|hello to] $0", "Print 'Hello, ' [followed by|and then] $0",
        "[Greet|Say hello to] [$0|the person] by name"],
       """
       print('Hello, ' + $0)
       """, lambda s: f"Hello, {s}\n", prints=True)
family("print_hello_world", "[print|say|show|display]_[hello|hello_world|message|greeting] [hello_world|hello|main|say_hi]", "",
       ["[Print|Display|Output|Say] ['$K'|$K]", "Print the [text|message|greeting] ['$K'|$K]"],
       "print('$K')", lambda text: text + "\n", constants=("Hello, World!", "Hello, world!", "Hello World", "Hello"),
       prints=True)
family("print_divisors", "[print|show|display|output]_[divisors|factors|all_divisors|all_factors]", "pos",
       ["[Print|Display|Output] [all |all the |the |][divisors|factors] of $0",
        "[Print|Display] [each|every] [number|integer] that divides $0"],
       """
       for i in range(1, $0 + 1):
           if $0 % i == 0:
               print(i)
       """, lambda n: "".join(f"{i}\n" for i in range(1, n + 1) if n % i == 0), prints=True)
_FIZZ = "multiples of 3 become 'Fizz', multiples of 5 'Buzz', multiples of both 'FizzBuzz'"


def _fizz(i: int) -> str:
    return ("Fizz" * (i % 3 == 0) + "Buzz" * (i % 5 == 0)) or str(i)


family("fizz_buzz_word", "[fizz_buzz|fizzbuzz]_[word|value|of|number|one|single] <g>[fizzbuzz|fizz_buzz]", "int",
       ["Return 'Fizz' if $0 is divisible by 3, 'Buzz' if by 5, 'FizzBuzz' if by both, [otherwise|else] the number as a string",
        "<ret> the FizzBuzz word for $0", "<ret> the [FizzBuzz|fizz buzz] value of [$0|a number] as a string"],
       """
       if $0 % 15 == 0:
           return 'FizzBuzz'
       if $0 % 3 == 0:
           return 'Fizz'
       if $0 % 5 == 0:
           return 'Buzz'
       return str($0)
       """, _fizz, make=lambda r: (r.randint(1, 60),))
family("fizz_buzz_print", "[print_|play_|show_|][fizz_buzz|fizzbuzz][_numbers|_game|_up_to|]", "pos",
       ["[Print|Play] FizzBuzz [from 1 to $0|for the numbers from 1 to $0|up to $0]",
        f"Print the numbers from 1 to $0, where {_FIZZ}"],
       """
       for i in range(1, $0 + 1):
           if i % 15 == 0:
               print('FizzBuzz')
           elif i % 3 == 0:
               print('Fizz')
           elif i % 5 == 0:
               print('Buzz')
           else:
               print(i)
       """, lambda n: "".join(_fizz(i) + "\n" for i in range(1, n + 1)), prints=True)
family("collatz_steps", "[collatz|hailstone]_[steps|length|count] [count|<g>]_collatz[_steps|]", "pos",
       ["[Count the|Return the number of] Collatz steps [from $0 to 1|needed to get from $0 to 1|until $0 becomes 1]",
        "Return how many [Collatz |]steps it takes to reach 1 from $0: halve if even, else 3 n + 1"],
       """
       steps = 0
       while $0 != 1:
           if $0 % 2 == 0:
               $0 //= 2
           else:
               $0 = 3 * $0 + 1
           steps += 1
       return steps
       """, lambda n: len(_collatz(n)) - 1)
family("collatz_sequence", "[collatz|hailstone]_[sequence|list|numbers|chain] <g>[collatz|hailstone]_[sequence|numbers]", "pos",
       ["<give> the Collatz sequence [starting|that starts] [at|from|with] $0 [as a list|]",
        "<give> [a list of |]the Collatz numbers from $0 [down |]to 1"],
       """
       result = [$0]
       while $0 != 1:
           if $0 % 2 == 0:
               $0 //= 2
           else:
               $0 = 3 * $0 + 1
           result.append($0)
       return result
       """, lambda n: _collatz(n))
family("sum_recursive", "[sum_recursive|recursive_sum|sum_to_recursive|sum_rec|sum_down]", "small",
       ["<ret> the sum of the numbers from 1 to $0 [recursively|using recursion|with recursion]",
        "[Recursively|Using recursion,] add the numbers from 1 to $0"],
       """
       if $0 <= 0:
           return 0
       return $0 + $f($0 - 1)
       """, lambda n: n * (n + 1) // 2)
family("power_recursive", "[power|pow]_[recursive|rec] recursive_[power|pow]", "any:base,x,a,b small:exponent,n,exp,e",
       ["<ret> $0 [raised to|to] the power [of |]$1 [recursively|using recursion|with recursion]"],
       """
       if $1 == 0:
           return 1
       return $0 * $f($0, $1 - 1)
       """, lambda b, e: b**e, make=lambda r: (r.randint(1, 9), r.randint(0, 5)))
family("powers_of_two", "[powers_of_two|list_powers_of_two|<g>powers_of_two|first_powers_of_two|powers_of_2]", "small",
       ["<give> [a list of |the list of |]the first $0 powers of [two|2]"],
       "return [2 ** i for i in range($0)]", lambda n: [2**i for i in range(n)])


def _collatz(n: int) -> list[int]:
    chain = [n]
    while n != 1:
        n = 3 * n + 1 if n % 2 else n // 2
        chain.append(n)
    return chain
