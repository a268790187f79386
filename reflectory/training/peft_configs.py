"""From the name of a method to PEFT's configuration of it.

torch and peft are imported inside the functions.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from reflectory.config.methods import MethodConfig
from reflectory.errors import ModelError, UserError

if TYPE_CHECKING:
    from peft import PeftConfig

_COMMON_IA3_TARGETS = ("k_proj", "v_proj", "down_proj")
_COMMON_IA3_FEEDFORWARD = ("down_proj",)
"""Names of the layers that IA3 scales in most decoders of today, also where PEFT has no list."""

_ENCODED = {"PREFIX_TUNING", "CARTRIDGE"}
"""Types that lay keys and values before the prompt, in the cache."""


def peft_config(config: MethodConfig, model: Any) -> PeftConfig:
    """Return PEFT's configuration of a method.

    Args:
        config: What the user decides; ``peft`` wins over ``method``.
        model: The base; some methods have other layers in every architecture.

    Raises:
        UserError: ``peft`` names a type or fields that PEFT does not know, or values
            that it refuses.
        ModelError: The base has no layers for the method.
    """
    if config.peft is not None:
        return _passed_through(dict(config.peft))
    import peft

    targets: Any = config.target_modules
    targets = targets if isinstance(targets, str) else list(targets)
    task = peft.TaskType.CAUSAL_LM
    match config.method:
        case "lora" | "qlora" | "dora":
            return peft.LoraConfig(  # Equation 7: W_0 + (alpha / r) B A
                r=config.rank,
                lora_alpha=config.alpha,
                lora_dropout=config.dropout,
                target_modules=targets,
                use_dora=config.method == "dora",
                task_type=task,
            )
        case "ia3":
            return _ia3(config, model)
        case "prefix":
            return peft.PrefixTuningConfig(num_virtual_tokens=config.virtual_tokens, task_type=task)
        case "prompt":
            # Random vectors are far from those of any token: from there little is learnt.
            return peft.PromptTuningConfig(
                num_virtual_tokens=config.virtual_tokens,
                prompt_tuning_init="SAMPLE_VOCAB",
                task_type=task,
            )
        case "p-tuning":
            return peft.PromptEncoderConfig(
                num_virtual_tokens=config.virtual_tokens, task_type=task
            )
        case "bitfit":
            if not hasattr(peft, "BeftConfig"):
                raise UserError(
                    "the method bitfit needs a newer PEFT", hint="pip install --upgrade peft"
                )
            return peft.BeftConfig(target_modules=targets, task_type=task)


def _ia3(config: MethodConfig, model: Any) -> PeftConfig:
    import peft
    from peft.utils.constants import (
        TRANSFORMERS_MODELS_TO_IA3_FEEDFORWARD_MODULES_MAPPING as FEEDFORWARD,
    )
    from peft.utils.constants import TRANSFORMERS_MODELS_TO_IA3_TARGET_MODULES_MAPPING as TARGETS

    kind = str(getattr(model.config, "model_type", ""))
    feedforward = list(FEEDFORWARD.get(kind, _COMMON_IA3_FEEDFORWARD))
    if config.target_modules != "all-linear":
        wanted = config.target_modules
        targets = [wanted] if isinstance(wanted, str) else list(wanted)
        feedforward = [name for name in feedforward if name in targets]
    else:
        # Scaling the output of every layer is another method; IA3 names three kinds.
        targets = list(TARGETS.get(kind, _COMMON_IA3_TARGETS))
    present = {name for name, _ in model.named_modules()}
    missing = [t for t in targets if not any(n == t or n.endswith(f".{t}") for n in present)]
    if missing:
        raise ModelError(
            f"the method ia3 finds no layers {', '.join(missing)} in this model",
            hint="name the key, value and feed-forward layers in training.target_modules",
        )
    return peft.IA3Config(
        target_modules=targets, feedforward_modules=feedforward, task_type=peft.TaskType.CAUSAL_LM
    )


def _passed_through(fields: dict[str, Any]) -> PeftConfig:
    """Return the configuration that the user wrote, with nothing in it ignored."""
    from peft import PEFT_TYPE_TO_CONFIG_MAPPING as TYPES
    from peft import TaskType

    name = str(fields.pop("peft_type"))
    known = {str(getattr(kind, "value", kind)): made for kind, made in TYPES.items()}
    if name.upper() not in known:
        raise UserError(
            f"training.peft names the type {name!r}, which PEFT does not know",
            hint=f"it knows {', '.join(sorted(known))}",
        )
    made = known[name.upper()]
    allowed = {field.name for field in dataclasses.fields(made) if field.init}
    unknown = sorted(set(fields) - allowed)
    if unknown:
        raise UserError(
            f"training.peft: {name.upper()} has no field {', '.join(unknown)}",
            hint=f"it has {', '.join(sorted(allowed))}",
        )
    fields.setdefault("task_type", TaskType.CAUSAL_LM)
    try:
        config: PeftConfig = made(**fields)
    except (TypeError, ValueError) as error:
        raise UserError(
            f"training.peft: PEFT refuses these values: {error}",
            hint="see PEFT's documentation of this type",
        ) from error
    return config


def keys_and_values(config: PeftConfig) -> bool:
    """Return whether a method lays keys and values before the prompt.

    PEFT hands them over as a cache, which activation checkpointing cannot have.
    """
    return str(getattr(config.peft_type, "value", config.peft_type)) in _ENCODED


def embeddings(config: PeftConfig) -> int:
    """Return how many vectors a method puts before the embedded tokens; 0 for most.

    The logits of the model are so many positions longer than its input.
    """
    if not config.is_prompt_learning or keys_and_values(config):
        return 0
    return int(config.num_virtual_tokens)
