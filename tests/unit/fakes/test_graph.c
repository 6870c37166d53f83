/* SPDX-License-Identifier: Apache-2.0 */
/* Graphs that are made by hand, of graphs, and captured into: what they do, and
 * what becomes of an executable whose graph changes. */
#include "fixture.h"

#include <stdatomic.h>

static CUstream stream;
static int sum;
static atomic_bool may_go_on;

static int stream_up(void **state)
{
    use_device(0);
    assert_ok(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
    return 0;
}

static int before_each(void **state)
{
    sum = 0;
    atomic_store(&may_go_on, false);
    return 0;
}

static void add(void *amount)
{
    sum += *(int *)amount;
}

static void hold(void *argument)
{
    while (!atomic_load(&may_go_on))
        ;
}

static int one = 1, ten = 10;

static CUgraph captured(int *amount)
{
    CUgraph graph;

    assert_ok(cuStreamBeginCapture_v2(stream, CU_STREAM_CAPTURE_MODE_GLOBAL));
    assert_ok(cuLaunchHostFunc(stream, add, amount));
    assert_ok(cuStreamEndCapture(stream, &graph));
    return graph;
}

static CUgraphExec instantiated(CUgraph graph)
{
    CUgraphExec exec;

    assert_ok(cuGraphInstantiateWithFlags(&exec, graph, 0));
    return exec;
}

static void run(CUgraphExec exec)
{
    assert_ok(cuGraphLaunch(exec, stream));
    assert_ok(cuStreamSynchronize(stream));
}

static void a_child_graph_is_a_clone(void **state)
{
    CUgraph child = captured(&one), parent, embedded, copy;
    CUgraphNode empty, node[2];
    CUgraphNodeType type;
    CUgraphExec exec;

    assert_ok(cuGraphCreate(&parent, 0));
    assert_ok(cuGraphAddEmptyNode(&empty, parent, NULL, 0));
    assert_ok(cuGraphAddChildGraphNode(&node[0], parent, &empty, 1, child));
    assert_ok(cuGraphAddChildGraphNode(&node[1], parent, node, 1, child));
    assert_int_equal(cuGraphAddChildGraphNode(&node[1], child, node, 1, parent),
                     CUDA_ERROR_INVALID_VALUE);
    assert_ok(cuGraphDestroy(child));
    assert_ok(cuGraphNodeGetType(node[1], &type));
    assert_int_equal(type, CU_GRAPH_NODE_TYPE_GRAPH);
    assert_ok(cuGraphChildGraphNodeGetGraph(node[0], &embedded));
    assert_int_equal(cuGraphChildGraphNodeGetGraph(empty, &embedded), CUDA_ERROR_INVALID_VALUE);
    assert_int_equal(cuGraphDestroy(embedded), CUDA_ERROR_INVALID_VALUE);
    assert_ok(cuGraphClone(&copy, parent));
    assert_ok(cuGraphDestroy(parent));
    exec = instantiated(copy);
    assert_ok(cuGraphDestroy(copy));
    run(exec);
    run(exec);
    assert_int_equal(sum, 4);
    assert_ok(cuGraphExecDestroy(exec));
}

static void memory_of_a_graph_is_no_childs(void **state)
{
    CUgraph child, parent;
    CUdeviceptr pointer;
    CUgraphNode node;

    assert_ok(cuStreamBeginCapture_v2(stream, CU_STREAM_CAPTURE_MODE_GLOBAL));
    assert_ok(cuMemAllocAsync(&pointer, 4096, stream));
    assert_ok(cuMemFreeAsync(pointer, stream));
    assert_ok(cuStreamEndCapture(stream, &child));
    assert_ok(cuGraphCreate(&parent, 0));
    assert_int_equal(cuGraphAddChildGraphNode(&node, parent, NULL, 0, child),
                     CUDA_ERROR_NOT_SUPPORTED);
    assert_ok(cuGraphDestroy(parent));
    assert_ok(cuGraphDestroy(child));
}

static void a_capture_puts_nodes_into_a_graph(void **state)
{
    CUgraph graph, same = NULL;
    CUgraphNode first;
    CUgraphExec exec;
    size_t count = 0;

    assert_ok(cuGraphCreate(&graph, 0));
    assert_ok(cuGraphAddEmptyNode(&first, graph, NULL, 0));
    assert_int_equal(cuStreamBeginCaptureToGraph(CU_STREAM_LEGACY, graph, NULL, NULL, 0, 0),
                     CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
    for (unsigned i = 0; i < 2; i++) {
        assert_ok(cuStreamBeginCaptureToGraph(stream, graph, &first, NULL, 1,
                                              CU_STREAM_CAPTURE_MODE_GLOBAL));
        assert_ok(cuLaunchHostFunc(stream, add, i ? &ten : &one));
        assert_int_equal(cuGraphInstantiateWithFlags(&exec, graph, 0), CUDA_ERROR_INVALID_VALUE);
        assert_ok(cuStreamEndCapture(stream, &same));
        assert_ptr_equal(same, graph);
    }
    assert_ok(cuGraphGetNodes(graph, NULL, &count));
    assert_int_equal(count, 3);
    exec = instantiated(graph);
    run(exec);
    assert_int_equal(sum, 11);
    assert_ok(cuGraphExecDestroy(exec));
    assert_ok(cuGraphDestroy(graph));
}

static void a_spoilt_capture_leaves_the_programs_graph(void **state)
{
    CUgraph graph, none;
    CUdeviceptr pointer;

    assert_ok(cuGraphCreate(&graph, 0));
    assert_ok(
        cuStreamBeginCaptureToGraph(stream, graph, NULL, NULL, 0, CU_STREAM_CAPTURE_MODE_GLOBAL));
    assert_int_equal(cuMemAlloc_v2(&pointer, 64), CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
    assert_int_equal(cuStreamEndCapture(stream, &none), CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
    assert_null(none);
    assert_ok(cuGraphExecDestroy(instantiated(graph)));
    assert_ok(cuGraphDestroy(graph));
}

static void an_update_concerns_later_launches(void **state)
{
    CUgraph old = captured(&one), new = captured(&ten), other;
    CUgraphExecUpdateResultInfo info;
    CUgraphExecUpdateResult result;
    CUgraphExec exec = instantiated(old);
    CUgraphNode node;

    assert_ok(cuLaunchHostFunc(stream, hold, NULL));
    assert_ok(cuGraphLaunch(exec, stream));
    assert_ok(cuGraphExecUpdate_v2(exec, new, &info));
    assert_int_equal(info.result, CU_GRAPH_EXEC_UPDATE_SUCCESS);
    assert_ok(cuGraphDestroy(old));
    assert_ok(cuGraphDestroy(new));
    atomic_store(&may_go_on, true);
    assert_ok(cuStreamSynchronize(stream));
    assert_int_equal(sum, 1);
    run(exec);
    assert_int_equal(sum, 11);
    assert_ok(cuGraphCreate(&other, 0));
    assert_int_equal(cuGraphExecUpdate_v2(exec, other, &info),
                     CUDA_ERROR_GRAPH_EXEC_UPDATE_FAILURE);
    assert_int_equal(info.result, CU_GRAPH_EXEC_UPDATE_ERROR_TOPOLOGY_CHANGED);
    assert_ok(cuGraphAddEmptyNode(&node, other, NULL, 0));
    assert_int_equal(cuGraphExecUpdate(exec, other, &node, &result),
                     CUDA_ERROR_GRAPH_EXEC_UPDATE_FAILURE);
    assert_int_equal(result, CU_GRAPH_EXEC_UPDATE_ERROR_NODE_TYPE_CHANGED);
    run(exec);
    assert_int_equal(sum, 21);
    assert_ok(cuGraphDestroy(other));
    assert_ok(cuGraphExecDestroy(exec));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(a_child_graph_is_a_clone, before_each),
        cmocka_unit_test_setup(memory_of_a_graph_is_no_childs, before_each),
        cmocka_unit_test_setup(a_capture_puts_nodes_into_a_graph, before_each),
        cmocka_unit_test_setup(a_spoilt_capture_leaves_the_programs_graph, before_each),
        cmocka_unit_test_setup(an_update_concerns_later_launches, before_each),
    };

    return cmocka_run_group_tests(tests, stream_up, NULL);
}
