/* SPDX-License-Identifier: Apache-2.0 */
/* Programs that keep what a step makes beside the weights, that train by more than weights were,
 * or whose weights are copies of what goes, played to the classifier. */
#include "alloc/classifier.h"

#include "alloc/classifier_parts.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "played.h"

#define LAYERS 12

static struct played *weights[LAYERS];

static struct played *weight(size_t size)
{
    struct played *block = born(size, TENSORS);

    block->is_small = block->is_steady = true;
    return block;
}

static size_t size_of(unsigned layer)
{
    return (4 + layer % 4) * 512 * KIB;
}

static void load(void)
{
    for (unsigned i = 0; i < LAYERS; i++)
        weights[i] = weight(size_of(i));
}

/* A batch of another length in each step, so that nothing that goes in it comes again. */
static void infer(unsigned step)
{
    struct played *kept[LAYERS];

    for (unsigned i = 0; i < LAYERS; i++)
        kept[i] = born((68 + 16 * step + i) * KIB, TENSORS);
    for (unsigned i = 0; i < LAYERS; i++)
        died(kept[i]);
}

static void expect(struct played *const *blocks, enum berth_tag tag)
{
    for (unsigned i = 0; i < LAYERS; i++)
        assert_int_equal(blocks[i]->tag, tag);
}

/* The second model is like the first, which was deleted. */
static void the_model_behind_one_that_was_deleted_is_weights(void **state)
{
    (void)state;
    for (unsigned model = 0; model < 3; model++) {
        load();
        for (unsigned step = 0; step < 3; step++) {
            infer(0);
            infer(0);
        }
        berth__classifier_refresh();
        expect(weights, BERTH_TAG_WEIGHT);
        for (unsigned i = 0; i < LAYERS && model < 2; i++)
            died(weights[i]);
    }
}

#define PLAYED(test) cmocka_unit_test_setup(test, begin)

int main(void)
{
    const struct CMUnitTest tests[] = {
        PLAYED(the_model_behind_one_that_was_deleted_is_weights),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
