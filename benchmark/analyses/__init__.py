"""What graphs say about networks: properties predicted from embeddings, graph statistics, a search among architectures.

embeddings.py  a vector per network       targets.py     what is to be predicted: published, or of our own runs
properties.py  regression, as published   statistics.py  measures of graphs, and how accuracy goes with them
search.py      ranking a split            figures.py     pictures;  inputs.py  options that the commands share
"""
