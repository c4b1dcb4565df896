package main

import (
	"math/bits"
	"strconv"
	"strings"
)

const notANumber = "not a number"

// splitNumber cuts "1.5G" into "1.5" and "G". Problem says in words why text does not begin with a number.
func splitNumber(text string) (number, suffix, problem string) {
	if text == "" {
		return "", "", "empty"
	}
	if text[0] == '-' {
		return "", "", "negative"
	}
	end := 0
	for end < len(text) && (text[end] >= '0' && text[end] <= '9' || text[end] == '.') {
		end++
	}
	number, suffix = text[:end], strings.TrimSpace(text[end:])
	if number == "" || number[0] == '.' || number[len(number)-1] == '.' || strings.Count(number, ".") > 1 {
		return "", "", notANumber
	}
	return number, suffix, ""
}

// orNotA turns "not a number" into what the person was asked for.
func orNotA(problem, noun string) string {
	if problem == notANumber {
		return "not a " + noun
	}
	return problem
}

// scale returns number × unit, rounded down; number is what splitNumber let through. It is exact, and not ok on overflow.
func scale(number string, unit uint64) (n uint64, ok bool) {
	whole, fraction, _ := strings.Cut(number, ".")
	w, err := strconv.ParseUint(whole, 10, 64)
	if err != nil {
		return 0, false
	}
	hi, lo := bits.Mul64(w, unit)
	part := scaleFraction(fraction, unit)
	n, carry := bits.Add64(lo, part, 0)
	return n, hi == 0 && carry == 0
}

// scaleFraction returns 0.digits × unit. Digits beyond the 18th do not change a number that fits 64 bits.
func scaleFraction(digits string, unit uint64) uint64 {
	digits = digits[:min(len(digits), 18)]
	divisor := uint64(1)
	for range digits {
		divisor *= 10
	}
	f, _ := strconv.ParseUint("0"+digits, 10, 64)
	hi, lo := bits.Mul64(f, unit)
	q, _ := bits.Div64(hi, lo, divisor) // f < divisor, so the quotient is below unit
	return q
}
