"""Functions from values to `matplotlib.figure.Figure`. No pyplot, nothing is saved here."""
