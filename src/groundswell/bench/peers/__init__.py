"""How people count likes today, each as a program of its own that answers the paths of a node."""
