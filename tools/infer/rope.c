/* SPDX-License-Identifier: Apache-2.0 */
#include "rope.h"

#include <math.h>

static float frequency_scaled(const struct berth_rope *rope, float frequency)
{
    double wavelength, ramp;

    if (rope->kind == BERTH_ROPE_DEFAULT)
        return frequency;
    if (rope->kind == BERTH_ROPE_LINEAR)
        return (float)(frequency / rope->factor);
    /* Wavelengths that the training context held many times over are learnt as they are; those
     * that it held less than once are stretched. */
    wavelength = 2 * M_PI / frequency;
    if (wavelength < rope->original_context / rope->high_freq_factor)
        return frequency;
    if (wavelength > rope->original_context / rope->low_freq_factor)
        return (float)(frequency / rope->factor);
    ramp = (rope->original_context / wavelength - rope->low_freq_factor) /
           (rope->high_freq_factor - rope->low_freq_factor);
    return (float)((1 - ramp) * frequency / rope->factor + ramp * frequency);
}

void berth__rope_frequencies(const struct berth_rope *rope, size_t head_dim, float *frequencies)
{
    for (size_t i = 0; i < head_dim / 2; i++) {
        double exponent = (double)(2 * i) / (double)head_dim;

        frequencies[i] = frequency_scaled(rope, (float)(1 / pow(rope->theta, exponent)));
    }
}

void berth__rope_angles(const float *frequencies, size_t half, size_t position, float *cosines,
                        float *sines)
{
    for (size_t i = 0; i < half; i++) {
        /* The product is rounded to float because the models were trained that way. */
        float angle = (float)position * frequencies[i];

        cosines[i] = cosf(angle);
        sines[i] = sinf(angle);
    }
}

void berth__rope_turn(float *head, size_t half, const float *cosines, const float *sines)
{
    for (size_t i = 0; i < half; i++) {
        float a = head[i], b = head[i + half];

        head[i] = a * cosines[i] - b * sines[i];
        head[i + half] = b * cosines[i] + a * sines[i];
    }
}
