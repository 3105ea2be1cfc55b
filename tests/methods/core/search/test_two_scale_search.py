"""What a slot may become, and that the search lowers an operator's error."""

from __future__ import annotations

from vitptq.bench.bits import BitSpec
from vitptq.bench.run.adapter_check import RandomImages, two_block_models
from vitptq.methods.core.model.prepare import PreparedModel, prepare
from vitptq.methods.core.quantizers.two_scale import TwoScale
from vitptq.methods.core.ranges.observers import RunningMinMax, observe_activations, observe_weights
from vitptq.methods.core.search.module_run import ModuleRun, squared_error, switched
from vitptq.methods.core.search.recording import sides
from vitptq.methods.core.search.two_scale_search import TwoScaleSearch, narrowing

SEARCH = TwoScaleSearch({"gelu": "sign"}, narrowing(0.4, 4), narrowing(0.5, 2), shifts=3, rounds=1)


def started() -> PreparedModel:
    net = prepare(two_block_models()["ViT"], BitSpec(3, 3))
    observe_weights(net)
    observe_activations(net, RandomImages(), RunningMinMax)
    return net


def test_factors_go_from_one_to_the_least() -> None:
    assert narrowing(0.25, 4) == [1.0, 0.75, 0.5, 0.25]
    assert narrowing(0.25, 1) == [1.0]


def test_named_roles_have_two_steps_of_every_ratio_and_others_one() -> None:
    slots = started().operands
    pairs = SEARCH.candidates(slots["blocks.0.mlp.fc2.input_operand"])
    assert [(q.shift, type(q)) for q in pairs if isinstance(q, TwoScale)] == [(m, TwoScale) for m in (0, 0, 1, 1, 2, 2)]
    assert len(SEARCH.candidates(slots["blocks.0.attn.av.left_operand"])) == 4


def test_the_search_makes_no_operator_worse() -> None:
    errors = []
    for search in (False, True):
        net = started()
        if search:
            SEARCH.run(net, RandomImages())
        operator = net.model.get_submodule("blocks.1.mlp.fc2")
        run = ModuleRun(net, RandomImages(), operator)
        with switched(net, sides(operator)):  # type: ignore[arg-type]
            errors.append(run.loss(squared_error))
    assert errors[1] < errors[0]
