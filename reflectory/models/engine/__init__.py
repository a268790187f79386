"""The local engine: transformers models with shared prefixes and batches.

``rendering`` makes token ids of segments, ``kv`` and ``prefix_cache`` hold what
was already computed, ``runner`` is the only place that calls the model,
``decoding`` and ``scoring`` do the work of one batch, and ``scheduler`` owns the
thread that decides what runs next. All but ``rendering`` import torch.
"""
