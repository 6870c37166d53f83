/* SPDX-License-Identifier: Apache-2.0 */
/*
 * For programs.py: factors numbers of many digits by continued trial, as cfrac does: each
 * intermediate result is a small block of its own, made and dropped at once. With numbers of 8
 * digits there is next to no work between malloc and free; with 40 about as much as in cfrac.
 *
 * usage: number_churn ROUNDS [DIGITS]
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Digits of 32 bits, the lowest first. */
struct number {
    unsigned length;
    uint32_t digit[];
};

static struct number *number_new(unsigned length)
{
    struct number *n = malloc(sizeof(*n) + length * sizeof(n->digit[0]));

    if (!n)
        exit(1);
    n->length = length;
    return n;
}

static struct number *trim(struct number *n)
{
    while (n->length > 1 && n->digit[n->length - 1] == 0)
        n->length--;
    return n;
}

static struct number *multiply(const struct number *a, const struct number *b)
{
    struct number *product = number_new(a->length + b->length);

    memset(product->digit, 0, product->length * sizeof(product->digit[0]));
    for (unsigned i = 0; i < a->length; i++) {
        uint64_t carry = 0;

        for (unsigned k = 0; k < b->length; k++) {
            carry += (uint64_t)a->digit[i] * b->digit[k] + product->digit[i + k];
            product->digit[i + k] = (uint32_t)carry;
            carry >>= 32;
        }
        product->digit[i + b->length] = (uint32_t)carry;
    }
    return trim(product);
}

/* The quotient by one digit; the remainder in *ret. */
static struct number *divide(const struct number *a, uint32_t by, uint32_t *ret)
{
    struct number *quotient = number_new(a->length);
    uint64_t rest = 0;

    for (unsigned i = a->length; i-- > 0;) {
        rest = rest << 32 | a->digit[i];
        quotient->digit[i] = (uint32_t)(rest / by);
        rest %= by;
    }
    *ret = (uint32_t)rest;
    return trim(quotient);
}

static struct number *from(uint32_t value)
{
    struct number *n = number_new(1);

    n->digit[0] = value;
    return n;
}

int main(int argc, char **argv)
{
    unsigned rounds = argc > 1 ? (unsigned)strtoul(argv[1], NULL, 10) : 100;
    unsigned digits = argc > 2 ? (unsigned)strtoul(argv[2], NULL, 10) : 8;
    uint64_t sum = 0;

    for (unsigned round = 0; round < rounds; round++) {
        struct number *n = from(round | 1);

        for (uint32_t i = 0; i < digits; i++) {
            struct number *factor = from((2 * round + 3 + i) * 2654435761u),
                          *next = multiply(n, factor);

            free(factor);
            free(n);
            n = next;
        }
        for (uint32_t by = 3; by < 100; by += 2) {
            uint32_t rest;
            struct number *quotient = divide(n, by, &rest);

            sum += rest;
            if (rest == 0) {
                free(n);
                n = quotient;
            } else {
                free(quotient);
            }
        }
        sum += n->digit[0];
        free(n);
    }
    printf("%llu\n", (unsigned long long)sum);
    return 0;
}
