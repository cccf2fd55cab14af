"""Families about single numbers: arithmetic, digits, divisors, comparisons."""

from __future__ import annotations

import math

from exercises.family import family

_PAIR = "any:a,x,m,num1,first,left any:b,y,n,num2,second,right"
_TRIPLE = "any:a,x,first any:b,y,second any:c,z,third"


def _pair(key: str, names: str, says: list[str], body: str, ref) -> None:
    family(key, names, _PAIR, says, body, ref)


_pair("add_two", "[add|sum|plus]_[two|numbers|two_numbers|pair|ints] add sum_two",
      ["<ret> the [sum|total] of [two|the two] numbers", "Add two [numbers|integers|values]",
       "Add $0 and $1 [and return the result|together|]", "<ret> $0 plus $1",
       "<ret> the [sum|total] of [|the numbers |two numbers, ]$0 and $1", "<ret> what $0 and $1 [add up|come] to"],
      "return $0 + $1", lambda a, b: a + b)
_pair("subtract", "[subtract|minus|difference|sub] subtract_[two|numbers|pair] <g>difference[_of_two|_of_numbers|]",
      ["Subtract $1 from $0", "<ret> the difference [between|of] $0 and $1", "<ret> $0 minus $1",
       "<ret> the result of subtracting $1 from $0"],
      "return $0 - $1", lambda a, b: a - b)
_pair("multiply", "[multiply|mul|times|product] [multiply|product_of|mul]_[two|numbers|pair|ints|two_numbers]",
      ["Multiply [two numbers|two integers|$0 by $1|$0 and $1]", "<ret> the product of $0 and $1",
       "<ret> the product of [two|the two] [numbers|integers|values]", "<ret> $0 times $1"],
      "return $0 * $1", lambda a, b: a * b)
_pair("max_of_two", "[max|maximum|larger|bigger|greater]_of_two <g>[larger|bigger|greater|max]_[number|value]",
      ["<ret> the [larger|bigger|greater|maximum] of [two|the two|two given] [numbers|integers|values]",
       "<ret> the [larger|bigger|greater] of $0 and $1", "<ret> the maximum of $0 and $1"],
      """
      if $0 > $1:
          return $0
      return $1
      """, max)
_pair("min_of_two", "[min|minimum|smaller|lesser]_of_two <g>[smaller|lesser|min]_[number|value]",
      ["<ret> the [smaller|lesser|minimum] of [two|the two|two given] [numbers|integers|values]",
       "<ret> the [smaller|lesser] of $0 and $1", "<ret> the minimum of $0 and $1"],
      """
      if $0 < $1:
          return $0
      return $1
      """, min)
_pair("abs_difference", "<g>[abs|absolute]_[difference|diff] distance_between [diff|gap]_[abs|absolute]",
      ["<ret> the absolute difference [between|of] $0 and $1",
       "<ret> the absolute difference [between|of] [two|the two] [numbers|integers|values]",
       "<ret> the [absolute |]distance between $0 and $1"],
      "return abs($0 - $1)", lambda a, b: abs(a - b))
_pair("average_two", "[average|mean]_of_two <g>[average|mean]_[of_pair|two|pair] midpoint",
      ["<ret> the [average|mean|midpoint] of $0 and $1",
       "<ret> the [average|mean] of [two|the two] [numbers|integers|values]"],
      "return ($0 + $1) / 2", lambda a, b: (a + b) / 2)
_pair("is_equal", "[are|is|check]_equal [are|is]_[same|the_same] numbers_equal",
      ["<check> $0 and $1 are [equal|the same]", "<check> [two|the two] numbers are [equal|the same]"],
      "return $0 == $1", lambda a, b: a == b)
_pair("is_greater", "is_[greater|larger|bigger] <g>[first|left]_is_[greater|larger]",
      ["<check> $0 is [greater|larger|bigger] than $1",
       "<check> the first number is [greater|larger] than the second [number|one]"],
      "return $0 > $1", lambda a, b: a > b)
_pair("sum_of_two_squares", "sum_of_[two_|]squares_of_[pair|two] <g>[sum_squares|square_sum]_of_two",
      ["<ret> the sum of the squares of $0 and $1", "<ret> $0 squared plus $1 squared",
       "<ret> the sum of the squares of [two|the two] [numbers|integers]"],
      "return $0 ** 2 + $1 ** 2", lambda a, b: a * a + b * b)
_DIVISION = {"make": lambda r: (r.randint(-30, 60), r.choice((1, 2, 3, 4, 5, 8, 10)))}
family("divide", "[divide|quotient|div|division] [divide|div]_[two|numbers|pair|two_numbers|a_by_b]", _PAIR,
       ["Divide $0 by $1", "<ret> $0 divided by $1", "<ret> the quotient of [$0 and $1|two numbers|the two numbers]",
        "<ret> the result of dividing $0 by $1"],
       "return $0 / $1", lambda a, b: a / b, **_DIVISION)
family("remainder", "[remainder|modulo|mod|<g>remainder][_of|_of_division||] divide_remainder", _PAIR,
       ["<ret> the remainder of [$0 divided by $1|dividing $0 by $1|the division of $0 by $1]", "<ret> $0 modulo $1",
        "<ret> what is left when $0 is divided by $1"],
       "return $0 % $1", lambda a, b: a % b, **_DIVISION)
family("floor_divide", "[floor_divide|integer_divide|int_div|whole_division|floor_div]", _PAIR,
       ["<ret> the [integer|floor|whole-number] [division|quotient] of $0 [and|by] $1",
        "<ret> $0 divided by $1, rounded down", "Divide $0 by $1 and round down"],
       "return $0 // $1", lambda a, b: a // b, **_DIVISION)
_pair("swap", "[swap|exchange|flip|reverse]_[two|pair|values|numbers] swap swapped",
      ["[Swap|Exchange] $0 and $1[ and return them|]", "<ret> $1 and $0", "<ret> [a tuple of |]$1 and $0[ in this order|]"],
      "return $1, $0", lambda a, b: (b, a))
family("circle_area", "[circle_area|area_of_circle|<g>circle_area|area_circle]", "pos:radius,r,x",
       ["<ret> the area of a circle[ with radius $0| of radius $0| given its radius||]"],
       """
       import math
       return math.pi * $0 ** 2
       """, lambda r: math.pi * r**2)
family("max_of_three", "[max|maximum|largest|biggest]_of_three <g>[max|largest]_[three|of_3]", _TRIPLE,
       ["<ret> the [largest|biggest|maximum|greatest] of [three|the three|three given] [numbers|integers|values]",
        "<ret> the [largest|biggest|maximum|greatest] of $0, $1 and $2"],
       "return max($0, $1, $2)", max)
family("min_of_three", "[min|minimum|smallest|least]_of_three <g>[min|smallest]_[three|of_3]", _TRIPLE,
       ["<ret> the [smallest|minimum|lowest|least] of [three|the three|three given] [numbers|integers|values]",
        "<ret> the [smallest|minimum|lowest|least] of $0, $1 and $2"],
       "return min($0, $1, $2)", min)
family("sum_of_three", "[sum|add|total]_[of_three|three|three_numbers|3]", _TRIPLE,
       ["<ret> the [sum|total] of [three|the three|three given] [numbers|integers|values]",
        "<ret> the [sum|total] of $0, $1 and $2", "Add [three numbers|$0, $1 and $2]"],
       "return $0 + $1 + $2", lambda a, b, c: a + b + c)
family("clamp", "[clamp|clip|limit|bound][_value|_number|_to_range|]",
       "any:value,x,n,num any:low,lower,minimum any:high,upper,maximum",
       ["[Clamp|Clip|Limit|Restrict] $0 to the range [from|between] $1 [to|and] $2",
        "<ret> $0 [limited|clamped|clipped] to [the range|the interval|] [$1, $2]",
        "<ret> $0, but not less than $1 and not more than $2"],
       "return max($1, min($0, $2))", lambda v, lo, hi: max(lo, min(v, hi)),
       make=lambda r: (r.randint(-20, 40), r.randint(-5, 5), r.randint(6, 20)))
family("in_range", "[in|is_in|within|is_within|is_between]_[range|bounds|interval]",
       "any:value,x,n,num any:low,lower,start any:high,upper,end",
       ["<check> $0 is [between|in the range from] $1 [and|to] $2", "<check> $0 lies between $1 and $2[, inclusive|]"],
       "return $1 <= $0 <= $2", lambda v, lo, hi: lo <= v <= hi,
       make=lambda r: (r.randint(-20, 40), r.randint(-5, 5), r.randint(6, 20)))

family("square", "[square|squared|<g>square][_number|_of|_num|]", "any",
       ["<ret> the square of [$0|a number|the given number|the number $0]", "Square [a number|$0]", "<ret> $0 squared"],
       "return $0 * $0", lambda n: n * n)
family("cube", "[cube|cubed|<g>cube][_number|_of|_num|]", "any",
       ["<ret> the cube of [$0|a number|the given number|the number $0]", "Cube [a number|$0]", "<ret> $0 cubed"],
       "return $0 ** 3", lambda n: n**3)
family("multiply_by", "[multiply_by|times|mul_by]_$K", "any",
       ["Multiply [a number|$0|the given number] by $K", "<ret> $K times [$0|the given number]",
        "<ret> [$0|the number] multiplied by $K"],
       "return $0 * $K", lambda n, k: n * k, constants=(2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 100))
family("add_constant", "[add|plus|increase_by|increment_by]_$K", "any",
       ["Add $K to [a number|$0|the given number]", "<ret> [$0|the given number] plus $K", "Increase $0 by $K"],
       "return $0 + $K", lambda n, k: n + k, constants=(1, 2, 3, 4, 5, 7, 10, 20, 50, 100))
family("halve", "[half|halve|<g>half_of|divide_by_two]", "any",
       ["<ret> half of [$0|a number|the given number]", "[Halve|Divide] [$0 by two|a number by two|the given number by 2]"],
       "return $0 / 2", lambda n: n / 2)
family("negate", "[negate|negative|opposite|flip_sign][_of|_number|]", "any",
       ["<ret> the [negation|negative|opposite] of [$0|a number|the given number]", "[Negate|Flip the sign of] [$0|a number]"],
       "return -$0", lambda n: -n)
family("absolute", "[absolute|abs|my_abs|<g>absolute][_value|_of|_val]", "any",
       ["<ret> the absolute value of [$0|a number|the given number]",
        "<ret> the absolute value of [$0|a number] without [using |]abs"],
       """
       if $0 < 0:
           return -$0
       return $0
       """, abs)
family("sign", "<g>sign[_of|_of_number|] [number|num]_sign signum", "any",
       ["<ret> the sign of [$0|a number|the given number]",
        "<ret> 1 if $0 is positive, -1 if it is negative and 0 [otherwise|if it is zero]",
        "Return -1, 0 or 1 [depending on|according to] the sign of $0"],
       """
       if $0 > 0:
           return 1
       if $0 < 0:
           return -1
       return 0
       """, lambda n: (n > 0) - (n < 0))
family("describe_sign", "[describe|classify]_[sign|number|integer] [positive_negative|sign]_[name|word|or_zero]", "any",
       ["Return 'positive', 'negative' or 'zero' [for|depending on] [$0|a number|the given number]",
        "[Classify|Describe] $0 as 'positive', 'negative' or 'zero'"],
       """
       if $0 > 0:
           return 'positive'
       if $0 < 0:
           return 'negative'
       return 'zero'
       """, lambda n: "positive" if n > 0 else "negative" if n < 0 else "zero")
family("even_or_odd", "[even_or_odd|odd_or_even|parity|<g>parity|parity_name]", "any",
       ["Return 'even' if $0 is even[,| and] 'odd' otherwise", "Return 'even' or 'odd' [for|depending on] [$0|a number]"],
       """
       if $0 % 2 == 0:
           return 'even'
       return 'odd'
       """, lambda n: "odd" if n % 2 else "even")
for _key, _cond, _words, _name, _ref in (
    ("even", "$0 % 2 == 0", "[even|an even number]", "even", lambda n: n % 2 == 0),
    ("odd", "$0 % 2 == 1", "[odd|an odd number]", "odd", lambda n: n % 2 == 1),
    ("positive", "$0 > 0", "[positive|greater than zero|a positive number]", "positive", lambda n: n > 0),
    ("negative", "$0 < 0", "[negative|less than zero|below zero|a negative number]", "negative", lambda n: n < 0),
):
    family(f"is_{_key}", f"<is>{_name}[_number|_num|_integer|||]", "any",
           [f"<check> [$0|a number|the given number|the number $0|the given integer|n] is {_words}".replace("|n]", "]")],
           f"return {_cond}", _ref)
family("divisible_by_k", "<is>divisible_by_$K <is>multiple_of_$K", "any",
       ["<check> [$0|a number|the given number|the number $0] is divisible by $K",
        "<check> [$0|a number|the given number] is a multiple of $K"],
       "return $0 % $K == 0", lambda n, k: n % k == 0, constants=(3, 4, 5, 6, 7, 8, 9, 10, 11))
family("divisible_by", "<is>divisible[_by|] divides_evenly <is>multiple[_of|]",
       "any:a,n,x,number,num pos:b,d,y,divisor",
       ["<check> $0 is [divisible by|a multiple of] $1", "<check> $1 divides $0 [evenly|without remainder|]"],
       "return $0 % $1 == 0", lambda a, b: a % b == 0)

family("sum_digits", "[sum|add|total]_[of_digits|digits|the_digits] digit_sum digits_sum <g>digit_[sum|total]", "big",
       ["<ret> the sum of the digits of [$0|a number|the given number|a non-negative integer]",
        "Add [up |]the digits of [$0|a number|the given number]", "<ret> the digit sum of [$0|a number]",
        "Sum [all|all the|] digits of [$0|a number|an integer]", "<ret> the sum of all digits [in|of] the number $0"],
       """
       total = 0
       while $0 > 0:
           total += $0 % 10
           $0 //= 10
       return total
       """, lambda n: sum(map(int, str(n))))
family("count_digits", "[count|number_of|num|how_many]_digits digit_count <g>digit_count", "big",
       ["<count> digits [in|of] [$0|a number|the given number]".replace("<count>", "[Count the|Return the number of|Find the number of]"),
        "Return how many digits [$0|a number|the given number] has"],
       "return len(str($0))", lambda n: len(str(n)))
family("reverse_number", "reverse_[number|integer|digits|int|num] <g>reversed_[number|integer]", "big",
       ["Reverse the digits of [$0|a number|the given number|an integer]",
        "<ret> the number [$0 |]with its digits [reversed|in reverse order]"],
       "return int(str($0)[::-1])", lambda n: int(str(n)[::-1]))
family("product_digits", "[product|multiply]_[of_digits|digits|the_digits] digit_product <g>digits_product", "pos",
       ["<ret> the product of the digits of [$0|a number|the given number|a positive integer]",
        "Multiply [together |][all |]the digits of [$0|a number]"],
       """
       product = 1
       while $0 > 0:
           product *= $0 % 10
           $0 //= 10
       return product
       """, lambda n: math.prod(map(int, str(n))))
family("is_palindrome_number", "<is>palindrome_[number|integer|num] <is>palindromic_[number|integer] number_is_palindrome", "big",
       ["<check> [$0|a number|the given number|an integer] is a palindrome",
        "<check> [a number|the number $0] reads the same [forwards and backwards|backwards]"],
       "return str($0) == str($0)[::-1]", lambda n: str(n) == str(n)[::-1],
       make=lambda r: (r.choice((121, 7, 1221, 12321, 123, 10, 99, 45, 1001, r.randint(0, 999))),))
family("divisors", "<g>[divisors|factors][_of|_of_number|_list|] [list|all]_[divisors|factors]", "pos",
       ["<ret> [a list of |the list of |]all [divisors|factors] of [$0|a number|the given number]",
        "<ret> [a|the] list of [all |the |][positive |]divisors of [$0|a number|a positive integer]"],
       "return [i for i in range(1, $0 + 1) if $0 % i == 0]", lambda n: [i for i in range(1, n + 1) if n % i == 0])
family("count_divisors", "[count|number_of|num]_[divisors|factors] divisor_count factor_count", "pos",
       ["[Count the|Return the number of|Find the number of] [divisors|factors] of [$0|a number|the given number]",
        "Return how many [divisors|factors] [$0|a number] has"],
       """
       count = 0
       for i in range(1, $0 + 1):
           if $0 % i == 0:
               count += 1
       return count
       """, lambda n: sum(n % i == 0 for i in range(1, n + 1)))
family("is_perfect", "<is>perfect[_number|_num||_integer]", "pos",
       ["<check> [$0|a number|the given number] is a perfect number",
        "<check> [$0|a number] equals the sum of its proper divisors"],
       """
       total = 0
       for i in range(1, $0):
           if $0 % i == 0:
               total += i
       return total == $0
       """, lambda n: n == sum(i for i in range(1, n) if n % i == 0),
       make=lambda r: (r.choice((6, 28, 496, 12, 8, r.randint(1, 60))),))
family("gcd", "[gcd|<g>gcd|greatest_common_divisor|greatest_common_factor|my_gcd|hcf][_of_two|_euclid||]",
       "pos:a,x,m,num1 pos:b,y,n,num2",
       ["<ret> the greatest common divisor of [$0 and $1|two numbers|two integers|two integers $0 and $1]",
        "<ret> the GCD of [$0 and $1|two numbers|two integers]",
        "<ret> the greatest common divisor [using|with] Euclid's algorithm",
        "<ret> the largest [number|integer] that divides both $0 and $1",
        "<ret> the greatest common factor of [$0 and $1|two numbers]"],
       """
       while $1:
           $0, $1 = $1, $0 % $1
       return $0
       """, math.gcd)
family("lcm", "[lcm|<g>lcm|least_common_multiple|lowest_common_multiple|my_lcm|smallest_common_multiple][_of_two||]",
       "pos:a,x,m,num1 pos:b,y,n,num2",
       ["<ret> the [least|lowest|smallest] common multiple of [$0 and $1|two numbers|two integers|two integers $0 and $1]",
        "<ret> the LCM of [$0 and $1|two numbers|two integers]"],
       """
       result = $0
       while result % $1 != 0:
           result += $0
       return result
       """, math.lcm)
family("power", "[power|my_pow|raise_to_power|exponent|<g>power]", "any:base,x,a,b small:exponent,n,exp,e",
       ["<ret> $0 [raised to|to] the power [of |]$1", "Raise $0 to the power [of |]$1",
        "<ret> $0 raised to $1 [using a loop|without using \\*\\*|]".replace("\\*", "*")],
       """
       result = 1
       for _ in range($1):
           result *= $0
       return result
       """, lambda b, e: b**e, make=lambda r: (r.randint(1, 9), r.randint(0, 5)))
family("leap_year", "<is>leap[_year|year] leap_year", "pos:year,y,n",
       ["<check> [$0|a year|the given year] is a leap year"],
       "return $0 % 4 == 0 and ($0 % 100 != 0 or $0 % 400 == 0)",
       lambda y: y % 4 == 0 and (y % 100 != 0 or y % 400 == 0),
       make=lambda r: (r.choice((1900, 2000, 2004, 2023, 2024, 2100, r.randint(1800, 2100))),))
family("celsius_to_fahrenheit", "[celsius_to_fahrenheit|c_to_f|to_fahrenheit|convert_celsius|celsius2fahrenheit]",
       "any:celsius,c,temp,degrees",
       ["Convert [a temperature|$0|degrees] from Celsius to Fahrenheit", "<ret> the temperature [$0 |]in Fahrenheit[, given degrees Celsius|]",
        "Convert [a Celsius temperature|degrees Celsius] to [degrees |]Fahrenheit"],
       "return $0 * 9 / 5 + 32", lambda c: c * 9 / 5 + 32)
family("fahrenheit_to_celsius", "[fahrenheit_to_celsius|f_to_c|to_celsius|convert_fahrenheit|fahrenheit2celsius]",
       "any:fahrenheit,f,temp,degrees",
       ["Convert [a temperature|$0|degrees] from Fahrenheit to Celsius", "<ret> the temperature [$0 |]in Celsius[, given degrees Fahrenheit|]",
        "Convert [a Fahrenheit temperature|degrees Fahrenheit] to [degrees |]Celsius"],
       "return ($0 - 32) * 5 / 9", lambda f: (f - 32) * 5 / 9)
family("rectangle_area", "[rectangle_area|area_of_rectangle|rect_area|<g>rectangle_area|area_rectangle]",
       "pos:width,w,a,length pos:height,h,b,breadth",
       ["<ret> the area of a rectangle[ with sides $0 and $1| with [width|sides] $0 and [height |]$1||]"],
       "return $0 * $1", lambda a, b: a * b)
family("rectangle_perimeter", "[rectangle_perimeter|perimeter_of_rectangle|rect_perimeter|<g>perimeter|perimeter]",
       "pos:width,w,a,length pos:height,h,b,breadth",
       ["<ret> the perimeter of a rectangle[ with sides $0 and $1| with [width|sides] $0 and [height |]$1||]"],
       "return 2 * ($0 + $1)", lambda a, b: 2 * (a + b))
family("triangle_area", "[triangle_area|area_of_triangle|<g>triangle_area|area_triangle]",
       "pos:base,b,a,width pos:height,h",
       ["<ret> the area of a triangle[ with base $0 and height $1| given its base and height||]"],
       "return $0 * $1 / 2", lambda a, b: a * b / 2)
family("is_square_number", "<is>[perfect_square|square_number|square] <is>perfect_square_number", "int",
       ["<check> [$0|a number|the given number] is a perfect square", "<check> [$0|a number] is the square of an integer"],
       """
       i = 0
       while i * i < $0:
           i += 1
       return i * i == $0
       """, lambda n: math.isqrt(n) ** 2 == n, make=lambda r: (r.choice((0, 1, 4, 9, 16, 25, 49, r.randint(0, 80))),))
family("to_binary", "[to|int_to|decimal_to|number_to|convert_to|<g>]_binary to_binary_string", "int",
       ["Convert [$0|a number|an integer|the given number] to [binary|a binary string|its binary representation]",
        "<ret> the binary representation of [$0|a number|an integer] as a string"],
       "return bin($0)[2:]", lambda n: format(n, "b"))
family("from_binary", "[binary_to_int|from_binary|binary_to_decimal|parse_binary|binary_to_number]",
       "word:s,binary,bits,text",
       ["Convert [a binary string|the binary string $0|$0 from binary] to [an integer|a decimal number|a number]",
        "<ret> the [integer|decimal] value of [a binary string|the binary string $0]"],
       "return int($0, 2)", lambda s: int(s, 2), make=lambda r: (format(r.randint(0, 64), "b"),))
family("seconds_to_minutes", "[seconds_to_minutes|split_seconds|to_minutes|minutes_and_seconds|convert_seconds]",
       "big:seconds,s,total,n",
       ["Convert $0 [seconds |]to [a tuple of |]minutes and seconds",
        "<ret> the [number of |]minutes and [the |][remaining|left] seconds in $0 [seconds|] as a tuple"],
       "return $0 // 60, $0 % 60", lambda n: divmod(n, 60))
family("discount", "[discounted_price|apply_discount|price_after_discount|<g>sale_price|<g>discounted_price]",
       "pos:price,amount,cost pos:percent,discount,rate",
       ["<ret> the price [$0 |]after a discount of $1 percent", "Apply a discount of $1 percent to $0",
        "Reduce $0 by $1 percent"],
       "return $0 - $0 * $1 / 100", lambda p, d: p - p * d / 100)
family("grade", "[letter_grade|<g>grade|grade_for_score|score_to_grade|grade]", "pos:score,points,mark,marks",
       ["<ret> the letter grade for $0: A from 90, B from 80, C from 70, [otherwise F|else F|F below]",
        "Convert a score to a [letter |]grade: 90 or more is A, 80 is B, 70 is C, [else|otherwise] F"],
       """
       if $0 >= 90:
           return 'A'
       if $0 >= 80:
           return 'B'
       if $0 >= 70:
           return 'C'
       return 'F'
       """, lambda s: "A" if s >= 90 else "B" if s >= 80 else "C" if s >= 70 else "F",
       make=lambda r: (r.randint(50, 100),))
