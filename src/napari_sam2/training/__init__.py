"""How the bundled model is made: procedural microscopy, labelled data, simulated clicks, losses and the loop."""
