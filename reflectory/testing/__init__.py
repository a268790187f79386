"""Public test doubles, so that users test their own code as reflectory tests its own.

Nothing here needs a download: scripted models, a world in which a student's
skill is a number, a hashing embedder and a tiny transformer built in memory.
"""
