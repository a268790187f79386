"""The state machines: Algorithm 1 on LangGraph.

Nodes are thin, State -> partial State; what they decide is decided in
``agents``, ``retrieval`` and ``alignment``.
"""
