"""A world that teaches itself: from one structure and one reference to a checked model.

A round trains a world on all labels so far, measures its error on frames of its own motion that it was
not trained on, and asks the reference where the world needs to know more. `loop.learn` runs rounds until a
goal is met or the budget is spent.

All that is learned from the reference lies in one file of lines (`ledger`); everything else follows from
it and from what a stage leaves whole in the folder of its round. So the same command goes on after a kill
wherever it came, and asks nothing twice.
"""
