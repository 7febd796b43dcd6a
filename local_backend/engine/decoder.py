"""The forward pass of Llama-shaped decoders over a packed tree of sequences.

It walks the module tree that transformers loaded, so weights, names and file formats stay transformers'; only the
arithmetic is this package's. `supports` says for which architectures it holds; the tests compare each with
transformers' own forward pass, one sequence at a time.

Shapes: T tokens of the pack, D width, H query heads, G key/value heads, K half the head size.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import nn

from local_backend.engine.attention import Plan, attend, attend_densely
from local_backend.engine.elementwise import rms_norm, rotate, swiglu
from local_backend.engine.projection import project, project_from
from local_backend.engine.recompute import recomputed

MODEL_TYPES = frozenset({"llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text"})


def supports(config: Any) -> bool:
    """Whether the packed forward pass is known to equal this architecture."""
    is_causal = not getattr(config, "use_bidirectional_attention", None)
    return config.model_type in MODEL_TYPES and is_causal and has_fixed_rotary_tables(config)


def has_fixed_rotary_tables(config: Any) -> bool:
    """Whether a text's rotary tables are the same whatever else is in a call.

    Longrope has two, and transformers takes one of them by the longest text. Dynamic ones change beyond the model's
    context only, which no text here exceeds.
    """
    parameters = getattr(config, "rope_parameters", None) or {}
    kinds = [parameters, *(value for value in parameters.values() if isinstance(value, Mapping))]
    return not any(kind.get("rope_type") == "longrope" for kind in kinds)


def embed(model: Any, plan: Plan) -> torch.Tensor:
    """The pack's embeddings (T, D)."""
    x_TD: torch.Tensor = model.model.embed_tokens(plan.pack.ids_T)
    return x_TD


def hidden_states(
    model: Any,
    x_TD: torch.Tensor,
    *,
    plan: Plan,
    layers: Sequence[Any] | None = None,
    rows_R: torch.Tensor | None = None,
    keeps: bool = True,
) -> torch.Tensor:
    """Run blocks (all by default) over embeddings or earlier blocks' output; without the last norm.

    With `rows_R`, only those places of the pack are returned (R, D), and the last block computes little else. Without
    `keeps`, blocks are computed again in the backward pass.
    """
    angles = _Angles(model, plan, x_TD)
    layers = model.model.layers if layers is None else layers
    for i, layer in enumerate(layers):
        rows = rows_R if i == len(layers) - 1 else None
        block = partial(_block, layer, plan=plan, angles=angles, rows_R=rows)
        x_TD = block(x_TD) if keeps else recomputed(block, x_TD, list(layer.parameters()))
    return x_TD if len(layers) or rows_R is None else x_TD[rows_R]


def final_norm(model: Any, x_TD: torch.Tensor) -> torch.Tensor:
    """The norm before the output layer."""
    return _norm(model.model.norm, x_TD)


class _Angles:
    """Rotary tables for the pack, by kind of layer."""

    def __init__(self, model: Any, plan: Plan, x_TD: torch.Tensor) -> None:
        self._rotary = model.model.rotary_emb
        self._positions_1T = plan.pack.positions_T[None].to(x_TD.device)
        self._x_TD = x_TD
        self._by_kind: dict[str | None, tuple[torch.Tensor, torch.Tensor]] = {}

    def of(self, layer: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """Cosines and sines (T, K) for a layer's attention."""
        has_kinds = hasattr(self._rotary, "layer_types")
        kind = layer.self_attn.layer_type if has_kinds else None
        if kind not in self._by_kind:
            tables = self._rotary(self._x_TD, self._positions_1T, *([kind] if has_kinds else []))
            self._by_kind[kind] = tuple(table[0].chunk(2, dim=-1)[0].contiguous() for table in tables)
        return self._by_kind[kind]


def _block(layer: Any, x_TD: torch.Tensor, *, plan: Plan, angles: _Angles, rows_R: torch.Tensor | None) -> torch.Tensor:
    normed = partial(_norm, layer.input_layernorm, x_TD)
    mixed_TD = _attention(layer.self_attn, normed, plan, *angles.of(layer), rows_R)
    x_TD = x_TD if rows_R is None else x_TD[rows_R]
    if not hasattr(layer, "pre_feedforward_layernorm"):
        x_TD = x_TD + mixed_TD
        return x_TD + _feed_forward(layer.mlp, partial(_norm, layer.post_attention_layernorm, x_TD))
    x_TD = x_TD + _norm(layer.post_attention_layernorm, mixed_TD)
    fed_TD = _feed_forward(layer.mlp, partial(_norm, layer.pre_feedforward_layernorm, x_TD))
    return x_TD + _norm(layer.post_feedforward_layernorm, fed_TD)


def _attention(
    module: Any,
    normed: Callable[[], torch.Tensor],
    plan: Plan,
    cos_TK: torch.Tensor,
    sin_TK: torch.Tensor,
    rows_R: torch.Tensor | None,
) -> torch.Tensor:
    size = module.head_dim
    n_heads = _n_outputs(module.q_proj) // size
    n_groups = _n_outputs(module.k_proj) // size
    joined_TP = project_from(normed, [module.q_proj, module.k_proj, module.v_proj])
    heads_TND = joined_TP.view(len(joined_TP), -1, size)
    if hasattr(module, "q_norm"):
        q_THD = rotate(_norm(module.q_norm, heads_TND[:, :n_heads]), cos_TK, sin_TK)
        k_TGD = rotate(_norm(module.k_norm, heads_TND[:, n_heads:-n_groups]), cos_TK, sin_TK)
    else:
        turned = rotate(heads_TND[:, :-n_groups], cos_TK, sin_TK)
        q_THD, k_TGD = turned[:, :n_heads], turned[:, n_heads:]
    # A copy, so that the joined projection need not be kept for the backward pass.
    out_THD = _mix(module, q_THD, k_TGD, heads_TND[:, -n_groups:].contiguous(), plan)
    out_THD = out_THD if rows_R is None else out_THD[rows_R]
    return project(out_THD.flatten(1), [module.o_proj])


def _mix(module: Any, q_THD: torch.Tensor, k_TGD: torch.Tensor, v_TGD: torch.Tensor, plan: Plan) -> torch.Tensor:
    window = getattr(module, "sliding_window", None) or _mistral_window(module)
    softcap = getattr(module, "attn_logit_softcapping", None)
    if softcap is None and (window is None or plan.longest <= window):
        return attend(q_THD, k_TGD, v_TGD, plan=plan, scale=module.scaling)
    return attend_densely(q_THD, k_TGD, v_TGD, plan=plan, scale=module.scaling, window=window, softcap=softcap)


def _mistral_window(module: Any) -> int | None:
    """Mistral's layers look their window up in the configuration."""
    config = module.config
    return config.sliding_window if config.model_type == "mistral" else None


def _feed_forward(module: Any, normed: Callable[[], torch.Tensor]) -> torch.Tensor:
    gate_up_TE = project_from(normed, [module.gate_proj, module.up_proj])
    if isinstance(module.act_fn, nn.SiLU) or type(module.act_fn).__name__ == "SiLUActivation":
        return project_from(partial(swiglu, gate_up_TE), [module.down_proj])
    gate_TF, up_TF = gate_up_TE.chunk(2, dim=-1)
    return project(module.act_fn(gate_TF) * up_TF, [module.down_proj])


def _norm(module: Any, x: torch.Tensor) -> torch.Tensor:
    if hasattr(module, "variance_epsilon"):
        return rms_norm(x, module.weight, eps=module.variance_epsilon)
    # Gemma keeps its norms' weights around zero, where bf16 is finer than around one.
    wide_D = module.weight.to(torch.promote_types(module.weight.dtype, torch.float32))
    return rms_norm(x, wide_D + 1.0, eps=module.eps)


def _n_outputs(layer: Any) -> int:
    return int((layer.base if hasattr(layer, "base") else layer).out_features)
