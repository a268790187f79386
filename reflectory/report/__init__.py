"""What a person looks at: the matrix as a picture and in the terminal, the graph as a figure.

matplotlib and rich are loaded by the modules that draw, not by this package.
"""
