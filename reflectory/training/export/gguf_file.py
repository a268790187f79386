"""One GGUF file with everything that llama.cpp needs: weights, vocabulary, chat template.

Importing this module imports torch, transformers and gguf.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import gguf
import numpy as np

from reflectory.training.export.gguf_layout import (
    FILE_TYPES,
    family_of,
    head_width,
    rope_factors,
    tensors_of,
)
from reflectory.training.export.gguf_vocabulary import add_vocabulary
from reflectory.training.export.manifest import NumberFormat
from reflectory.training.export.merging import Student, is_tied


def write_gguf(
    student: Student, file: Path, stored: NumberFormat, *, name: str, licence: str = ""
) -> None:
    """Write a student as one GGUF file.

    Tensors are converted one at a time, so that no second copy of the model is needed.

    Args:
        student: In float32.
        file: Where to write.
        stored: Number format of the matrices.
        name: What the file calls the model.
        licence: Licence for the file's metadata; nothing is written when it is empty.

    Raises:
        UnsupportedCapability: Architecture or vocabulary are not known here.
        ModelError: A weight is too large for float16.
        OSError: The disk is full.
    """
    config, tied = student.model.config, is_tied(student.model)
    factors = rope_factors(config)
    writer = gguf.GGUFWriter(None, gguf.MODEL_ARCH_NAMES[family_of(config).architecture])
    _add_facts(writer, student, stored, name, licence)
    add_vocabulary(writer, student.tokenizer, int(config.vocab_size))
    for tensor in tensors_of(student.model, stored, tied=tied):
        size = int(np.prod(tensor.stored_shape)) * tensor.stored_type.itemsize
        writer.add_tensor_info(
            tensor.name,
            tensor.stored_shape,
            tensor.stored_type,
            size,
            raw_dtype=tensor.quantization,
        )
    if factors is not None:
        writer.add_tensor_info("rope_freqs.weight", factors.shape, factors.dtype, factors.nbytes)
    try:
        writer.write_header_to_file(file)
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for tensor in tensors_of(student.model, stored, tied=tied):
            writer.write_tensor_data(tensor.stored())
        if factors is not None:
            writer.write_tensor_data(factors)
    finally:
        writer.close()
    check_whole(file)


def check_whole(file: Path) -> None:
    """Make sure that a file holds all that its header says.

    numpy writes an array through a buffer of its own and does not say when the disk
    had no room for the rest of it.

    Raises:
        OSError: It was cut short.
    """
    try:
        gguf.GGUFReader(file)
    except (ValueError, IndexError) as error:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error


def _add_facts(
    writer: gguf.GGUFWriter, student: Student, stored: NumberFormat, name: str, licence: str
) -> None:
    """Write who the model is and the numbers that llama.cpp computes with."""
    config: Any = student.model.config
    width = head_width(config)
    writer.add_type(gguf.GGUFType.MODEL)
    writer.add_name(name)
    writer.add_base_model_count(1)
    writer.add_base_model_name(0, student.base_name)
    if licence:
        writer.add_license(licence)
    writer.add_file_type(FILE_TYPES[stored])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_vocab_size(int(config.vocab_size))
    writer.add_context_length(int(config.max_position_embeddings))
    writer.add_embedding_length(int(config.hidden_size))
    writer.add_block_count(int(config.num_hidden_layers))
    writer.add_feed_forward_length(int(config.intermediate_size))
    writer.add_head_count(int(config.num_attention_heads))
    writer.add_head_count_kv(int(config.num_key_value_heads))
    writer.add_key_length(width)
    writer.add_value_length(width)
    writer.add_layer_norm_rms_eps(float(config.rms_norm_eps))
    writer.add_rope_dimension_count(width)
    writer.add_rope_freq_base(float((config.rope_parameters or {}).get("rope_theta", 10000.0)))
