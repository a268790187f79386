"""The local engine: transformers models whose calls share passes and prefixes.

``rendering`` makes token ids of segments. ``engine`` holds one base model and its
adapters, ``scheduler`` the thread that decides what runs next, ``batch`` the rows
that run; ``passes`` packs them for the network, ``tree`` and ``store`` hold keys and
values. ``trial`` finds out which network runs a model: ``llama`` (as it is or
``quantized``), ``generic`` (any with full attention), or ``plain`` without packing.
All but ``rendering`` import torch.
"""
